use super::*;

#[test]
fn balloon_seeds_pass() {
    for (name, seed) in balloon_seeds() {
        println!("{name}");
        balloon_pages(&seed);
    }
}

#[test]
fn register_seeds_pass() {
    for (name, seed) in register_seeds() {
        println!("{name}");
        virtio_registers(&seed);
    }
}
