use super::*;

#[test]
fn gaps_survive_the_wire() {
    let mut gaps = Gaps::default();
    for micros in [1, 999, 1000, 1001, 70_000] {
        gaps.add(Duration::from_micros(micros));
    }
    assert_eq!(gaps.longest, Duration::from_millis(70));
    assert_eq!(gaps.together, Duration::from_micros(71_001));
    assert_eq!(Gaps::parse(&gaps.to_string()), Some(gaps));
    assert_eq!(Gaps::parse("12"), None);
}

#[test]
fn a_watch_ends_when_asked() {
    let watch = Watch::start();
    thread::sleep(Duration::from_millis(2));
    assert!(watch.stop().is_some());
}
