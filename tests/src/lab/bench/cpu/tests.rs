use super::*;

#[test]
fn guest_time_is_found_behind_any_name() {
    let fields: Vec<String> = (3..=52).map(|number| number.to_string()).collect();
    let stat = format!("17 (CPU 0) (KVM) {}\n", fields.join(" "));
    assert_eq!(guest_ticks(&stat), Some(43));
    assert_eq!(guest_ticks("17 (short) S 1"), None);
}

#[test]
fn our_own_time_grows() {
    let threads = Threads::new(std::process::id(), Vec::new());
    let before = threads.spent().unwrap();
    let start = std::time::Instant::now();
    while start.elapsed() < Duration::from_millis(5) {}
    let spent = threads.spent().unwrap().since(before);
    assert!(spent.host() > Duration::ZERO);
    assert_eq!(spent.vcpus, Duration::ZERO);
}

#[test]
fn a_vcpu_counts_apart() {
    let id = std::process::id();
    let threads = Threads::new(id, vec![id]);
    assert!(threads.spent().unwrap().vcpus > Duration::ZERO);
}

#[test]
fn threads_that_end_meanwhile_are_left_out() {
    let threads = Threads::new(std::process::id(), Vec::new());
    let brief = std::thread::spawn(|| {
        let start = std::time::Instant::now();
        while start.elapsed() < Duration::from_millis(200) {
            std::thread::spawn(|| ()).join().unwrap();
        }
    });
    while !brief.is_finished() {
        threads.spent().unwrap();
    }
    brief.join().unwrap();
}
