use proptest::prelude::*;

use super::*;

fn entries(list: &[(u16, u64)]) -> Vec<u8> {
    let bytes = |(tag, value): &(u16, u64)| [&tag.to_le_bytes()[..], &value.to_le_bytes()].concat();
    list.iter().flat_map(bytes).collect()
}

#[test]
fn the_sixteen_are_known_by_qemus_names() {
    let all: Vec<_> = (0..16).map(|tag| (tag, u64::from(tag) + 100)).collect();
    let stats = GuestStats::parse(&entries(&all));
    assert!(stats.unknown().is_empty());
    let named: Vec<_> = stats.iter().collect();
    assert_eq!(named.len(), 16);
    assert!(
        named
            .iter()
            .zip(100..)
            .all(|((_, value), wanted)| *value == Some(wanted))
    );
    assert_eq!(
        (named[0].0, named[15].0),
        ("stat-swap-in", "stat-direct-reclaims")
    );
    assert_eq!(stats.get(Stat::AvailableMemory), Some(106));
    assert_eq!(Stat::AvailableMemory.name(), "stat-available-memory");
    assert_eq!(Stat::OomKills.name(), "stat-oom-kills");
}

/// Linux on x86-64 leaves nothing between tag and value; a report may be short, odd, or empty.
#[test]
fn what_is_missing_is_none_and_halves_are_dropped() {
    let mut bytes = entries(&[(4, 7), (4, 8), (0xfffe, u64::MAX)]);
    bytes.extend([5, 0, 1, 2, 3]);
    let stats = GuestStats::parse(&bytes);
    assert_eq!(stats.get(Stat::FreeMemory), Some(8));
    assert_eq!(stats.get(Stat::TotalMemory), None);
    assert_eq!(stats.unknown(), [(0xfffe, u64::MAX)]);
    assert!(GuestStats::parse(&[]).iter().all(|(_, value)| value.is_none()));
    assert!(stats.age() < Duration::from_secs(60));
}

#[test]
fn unknown_statistics_are_few() {
    let many: Vec<_> = (16..600).map(|tag| (tag, 1)).collect();
    let stats = GuestStats::parse(&entries(&many));
    assert_eq!(stats.unknown().len(), MAX_UNKNOWN);
    assert_eq!(stats.unknown()[0], (16, 1));
    let again: Vec<_> = many.iter().map(|(tag, _)| (*tag, 2)).collect();
    let stats = GuestStats::parse(&entries(&[many, again].concat()));
    assert!(stats.unknown().iter().all(|(_, value)| *value == 2));
}

proptest! {
    #[test]
    fn any_bytes_are_statistics(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        let stats = GuestStats::parse(&bytes);
        prop_assert!(stats.unknown().len() <= MAX_UNKNOWN);
        prop_assert!(stats.unknown().iter().all(|(tag, _)| usize::from(*tag) >= KNOWN));
    }
}
