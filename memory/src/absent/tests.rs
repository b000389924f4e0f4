use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const HUGE: u64 = 2 << 20;

fn range(start: u64, len: u64) -> GuestRange {
    GuestRange::new(GuestAddress(start), len)
}

/// Reserved, not reserved, small pages, huge pages again.
fn regions() -> [(GuestRange, PageSize, bool); 4] {
    [
        (range(0, 200 * HUGE), PageSize::HUGE_2M, true),
        (range(200 * HUGE, 4 * HUGE), PageSize::HUGE_2M, false),
        (range(204 * HUGE, 4 * HUGE), PageSize::BASE, false),
        (range(1 << 32, 4 << 30), PageSize::HUGE_1G, true),
    ]
}

fn touched(absent: &Absent, asked: GuestRange) -> Vec<GuestRange> {
    let mut out = Vec::new();
    absent.touched(asked, &mut out);
    out
}

#[test]
fn whole_pages_go_and_any_part_finds_them() {
    let mut absent = Absent::new(regions());
    absent.insert(range(HUGE + 1, 3 * HUGE));
    assert_eq!(absent.unreserved(), 2 * HUGE);
    assert_eq!(touched(&absent, range(0, 2 * HUGE)), []);
    let page = range(2 * HUGE, HUGE);
    assert_eq!(touched(&absent, range(2 * HUGE + 4096, 1)), [page]);
    assert_eq!(touched(&absent, range(0, u64::MAX)).len(), 2);
    absent.insert(page);
    assert_eq!(absent.unreserved(), 2 * HUGE, "it was gone already");
    absent.remove(page);
    absent.remove(page);
    assert_eq!((absent.unreserved(), touched(&absent, page).len()), (HUGE, 0));
}

#[test]
fn what_was_not_reserved_loses_no_reservation() {
    let mut absent = Absent::new(regions());
    absent.insert(range(199 * HUGE, 20 * HUGE));
    assert_eq!(absent.unreserved(), HUGE);
    assert_eq!(
        touched(&absent, range(199 * HUGE, 20 * HUGE)).len(),
        5,
        "small pages are not looked at"
    );
    absent.insert(range(1 << 32, 1 << 30));
    assert_eq!(absent.unreserved(), HUGE + (1 << 30));
}

proptest! {
    #[test]
    fn agrees_with_a_set(steps in prop::collection::vec((any::<bool>(), 0..220 * HUGE, 0..40 * HUGE), 0..40)) {
        let mut absent = Absent::new(regions());
        let mut model = BTreeSet::new();
        for (gone, start, len) in steps {
            let asked = range(start, len);
            if gone { absent.insert(asked) } else { absent.remove(asked) }
            for page in start.div_ceil(HUGE)..(start + len) / HUGE {
                if page < 204 && gone { model.insert(page); } else { model.remove(&page); }
            }
            let all: Vec<u64> = touched(&absent, range(0, u64::MAX)).iter().map(|page| page.start.0 / HUGE).collect();
            prop_assert_eq!(&all, &model.iter().copied().collect::<Vec<_>>());
            let reserved = model.iter().filter(|page| **page < 200).count() as u64;
            prop_assert_eq!(absent.unreserved(), reserved * HUGE);
        }
    }
}
