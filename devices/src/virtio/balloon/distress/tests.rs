use proptest::prelude::*;

use super::*;

const ACTUAL: u64 = 1 << 30;

fn report(list: &[(Stat, u64)]) -> GuestStats {
    let bytes =
        |(stat, value): &(Stat, u64)| [&(*stat as u16).to_le_bytes()[..], &value.to_le_bytes()].concat();
    GuestStats::parse(&list.iter().flat_map(bytes).collect::<Vec<_>>())
}

fn judged(first: &[(Stat, u64)], second: &[(Stat, u64)]) -> Vec<(&'static str, u64)> {
    let mut distress = Distress::default();
    assert_eq!(
        distress.judge(&report(first), ACTUAL),
        [],
        "nothing to compare with"
    );
    distress.judge(&report(second), ACTUAL)
}

#[test]
fn a_kill_is_distress_however_much_is_left() {
    let plenty = (Stat::AvailableMemory, ACTUAL);
    let signs = judged(&[(Stat::OomKills, 4), plenty], &[(Stat::OomKills, 6), plenty]);
    assert_eq!(signs, [("stat-oom-kills", 2)]);
    assert_eq!(judged(&[(Stat::OomKills, 4)], &[(Stat::OomKills, 4)]), []);
}

#[test]
fn stalls_count_when_little_is_left() {
    let first = [(Stat::AllocStalls, 10), (Stat::DirectReclaims, 1000)];
    let second = |available| {
        let stats = [
            (Stat::AllocStalls, 26),
            (Stat::DirectReclaims, 2000),
            (Stat::AvailableMemory, available),
        ];
        judged(&first, &stats)
    };
    assert_eq!(
        second(ACTUAL / 2),
        [],
        "the page cache shrinks, that is what it is for"
    );
    assert_eq!(
        second(1 << 20),
        [("stat-alloc-stalls", 16), ("stat-direct-reclaims", 1000)]
    );
    assert_eq!(
        judged(&first, &[(Stat::AllocStalls, 25), (Stat::FreeMemory, 0)]),
        [],
        "too few"
    );
}

/// Counters that fall, wrap, or are not there say nothing.
#[test]
fn only_a_rise_counts() {
    assert_eq!(judged(&[(Stat::OomKills, u64::MAX)], &[(Stat::OomKills, 0)]), []);
    assert_eq!(judged(&[], &[(Stat::OomKills, 5)]), []);
    assert_eq!(
        judged(&[(Stat::OomKills, 0)], &[(Stat::OomKills, u64::MAX)]),
        [("stat-oom-kills", u64::MAX)]
    );
    let mut distress = Distress::default();
    distress.judge(&report(&[(Stat::OomKills, 1)]), ACTUAL);
    distress.reset();
    assert_eq!(distress.judge(&report(&[(Stat::OomKills, 2)]), ACTUAL), []);
}

proptest! {
    #[test]
    fn any_numbers_can_be_judged(reports in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..6)) {
        let mut distress = Distress::default();
        for bytes in reports {
            for (name, rise) in distress.judge(&GuestStats::parse(&bytes), ACTUAL) {
                prop_assert!(name.starts_with("stat-") && rise > 0);
            }
        }
    }
}
