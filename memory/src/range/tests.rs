use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn merged(numbers: &[u32]) -> Vec<GuestRange> {
    let mut pfns = numbers.iter().map(|number| Pfn(*number)).collect();
    let mut out = vec![GuestRange::between(0, 1)];
    merge_pfns(&mut pfns, &mut out);
    out
}

fn range(start: u64, len: u64) -> GuestRange {
    GuestRange::new(GuestAddress(start), len)
}

#[test]
fn neighbours_become_one_range() {
    assert_eq!(merged(&[]), []);
    assert_eq!(merged(&[5]), [range(0x5000, 0x1000)]);
    assert_eq!(
        merged(&[7, 5, 6, 6, 9, 5]),
        [range(0x5000, 0x3000), range(0x9000, 0x1000)]
    );
}

#[test]
fn page_numbers_reach_beyond_4_gib() {
    assert_eq!(
        merged(&[u32::MAX, u32::MAX - 1]),
        [range(0xFFF_FFFF_E000, 0x2000)]
    );
    assert_eq!(
        merged(&[0, u32::MAX]),
        [range(0, 0x1000), range(0xFFF_FFFF_F000, 0x1000)]
    );
}

#[test]
fn an_end_beyond_the_last_address_is_the_last_address() {
    let wild = range(u64::MAX - 10, u64::MAX);
    assert_eq!(wild.end(), u64::MAX);
    assert!(wild.contains(GuestAddress(u64::MAX - 1)));
    assert_eq!(wild.shrink_to(PageSize::BASE), None);
    assert_eq!(
        range(0, u64::MAX).shrink_to(PageSize::HUGE_2M),
        Some(range(0, u64::MAX - (2 << 20) + 1))
    );
    assert_eq!(wild.intersection(&range(0, 4096)), None);
}

#[test]
fn only_whole_pages_are_inside() {
    assert_eq!(range(1, 4096).shrink_to(PageSize::BASE), None);
    assert_eq!(range(1, 8191).shrink_to(PageSize::BASE), Some(range(4096, 4096)));
    assert_eq!(range(0, 4096).shrink_to(PageSize::HUGE_2M), None);
}

proptest! {
    #[test]
    fn merging_keeps_the_pages(numbers in prop::collection::vec(prop_oneof![0_u32..300, any::<u32>()], 0..400)) {
        let out = merged(&numbers);
        let pages: BTreeSet<u64> = numbers.iter().map(|number| u64::from(*number)).collect();
        let found: Vec<u64> = out
            .iter()
            .flat_map(|range| range.start.0 >> 12..range.end() >> 12)
            .collect();
        prop_assert_eq!(found, pages.into_iter().collect::<Vec<_>>());
        for pair in out.windows(2) {
            prop_assert!(pair[0].end() < pair[1].start.0);
        }
    }

    #[test]
    fn a_common_part_is_in_both(a in any::<(u64, u64)>(), b in any::<(u64, u64)>()) {
        let (a, b) = (range(a.0, a.1), range(b.0, b.1));
        prop_assert_eq!(a.intersection(&b), b.intersection(&a));
        if let Some(common) = a.intersection(&b) {
            prop_assert!(common.start >= a.start && common.end() <= a.end());
            prop_assert!(common.start >= b.start && common.end() <= b.end());
        }
    }
}
