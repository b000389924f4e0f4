use memory::size::ByteSize;

use super::*;

fn change(mib: u64) -> Event {
    Event::BalloonChange {
        actual: ByteSize::mib(mib),
    }
}

fn size(event: Option<Event>) -> Option<u64> {
    let event = event?;
    let Event::BalloonChange { actual } = event else {
        panic!("{event:?}")
    };
    Some(actual.bytes() >> 20)
}

#[test]
fn the_first_and_the_last_of_a_burst_go_through() {
    let start = Instant::now();
    let at = |ms| start + Duration::from_millis(ms);
    let mut limits = Limits::default();
    assert_eq!(limits.due(), None);
    assert_eq!(size(limits.offer(change(1), at(0))), Some(1));
    assert_eq!(limits.due(), None);
    assert_eq!(size(limits.offer(change(2), at(100))), None);
    assert_eq!(size(limits.offer(change(3), at(200))), None);
    assert_eq!(limits.due(), Some(at(1000)));
    assert_eq!(size(limits.expire(at(900))), None);
    assert_eq!(size(limits.expire(at(1000))), Some(3));
    // The one that waited starts a period too.
    assert_eq!(size(limits.offer(change(4), at(1500))), None);
    assert_eq!(size(limits.expire(at(2000))), Some(4));
    assert_eq!(size(limits.expire(at(4000))), None);
    assert_eq!(size(limits.offer(change(5), at(4000))), Some(5));
}

#[test]
fn what_users_cause_is_not_held_back() {
    let (mut limits, now) = (Limits::default(), Instant::now());
    for _ in 0..3 {
        assert!(matches!(limits.offer(Event::Stop, now), Some(Event::Stop)));
    }
    assert_eq!(limits.due(), None);
}
