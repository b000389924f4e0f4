use std::fs;
use std::path::PathBuf;

use proptest::prelude::*;

use super::*;

/// Where fuzzing starts from: these seeds as files, and inputs that were found later.
fn corpus(target: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "tests/fuzz/corpus", target]
        .iter()
        .collect()
}

/// The corpus has every seed as it is here. With `BALLAST_WRITE_SEEDS` set it is brought up to date.
fn check_corpus(target: &str, seeds: Vec<Seed>) {
    for (name, seed) in seeds {
        let file = corpus(target).join(name);
        if std::env::var_os("BALLAST_WRITE_SEEDS").is_some() {
            fs::write(&file, &seed).unwrap();
        }
        let advice = format!(
            "{} differs: run this test with BALLAST_WRITE_SEEDS=1",
            file.display()
        );
        assert_eq!(fs::read(&file).ok(), Some(seed), "{advice}");
    }
}

/// Every file of the corpus, whatever it was that found it.
fn replay(target: &str, entry: fn(&[u8])) {
    for file in fs::read_dir(corpus(target)).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        entry(&fs::read(path).unwrap());
    }
}

#[test]
fn balloon_seeds_pass() {
    check_corpus("balloon_pages", balloon_seeds());
    replay("balloon_pages", balloon_pages);
}

#[test]
fn register_seeds_pass() {
    check_corpus("virtio_registers", register_seeds());
    replay("virtio_registers", virtio_registers);
}

#[test]
fn queue_seeds_pass() {
    check_corpus("device_queues", queue_seeds());
    replay("device_queues", device_queues);
}

#[test]
fn daemon_seeds_pass() {
    check_corpus("daemon_answers", daemon_seeds());
    replay("daemon_answers", daemon_answers);
}

proptest! {
    #[test]
    fn no_daemon_harms_a_device(
        lengths in proptest::collection::vec(0_u8..60, 4),
        // Mostly right answers, else nothing comes far.
        rest in proptest::collection::vec(prop_oneof![12 => Just(0), 1 => any::<u8>()], 0..200),
    ) {
        daemon_answers(&[lengths, rest].concat());
    }

    #[test]
    fn no_driver_harms_a_device(data in proptest::collection::vec(any::<u8>(), 0..400)) {
        device_queues(&data);
    }
}
