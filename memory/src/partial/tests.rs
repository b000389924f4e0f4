use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const HUGE: u64 = 2 << 20;

fn range(start: u64, len: u64) -> GuestRange {
    GuestRange::new(GuestAddress(start), len)
}

/// More than there is.
const ALL: GuestRange = GuestRange::new(GuestAddress(0), u64::MAX);

/// Four huge pages at 8 MiB, two at 4 GiB, and base pages below.
fn partial() -> Partial {
    Partial::new([
        (range(0, 4 * HUGE), PageSize::BASE),
        (range(1 << 32, 2 * HUGE), PageSize::HUGE_2M),
        (range(4 * HUGE, 4 * HUGE), PageSize::HUGE_2M),
    ])
}

fn insert(partial: &mut Partial, start: u64, len: u64) -> Vec<GuestRange> {
    let mut complete = Vec::new();
    partial.insert(range(start, len), &mut complete);
    complete
}

#[test]
fn a_huge_page_is_complete_with_its_last_piece() {
    let mut partial = partial();
    let start = 4 * HUGE;
    assert_eq!(insert(&mut partial, start, HUGE - 4096), []);
    assert_eq!(partial.bytes(ALL), HUGE - 4096);
    assert_eq!(
        insert(&mut partial, start, 4096),
        [],
        "a piece given twice counts once"
    );
    assert_eq!(
        insert(&mut partial, start + HUGE - 4096, 4096),
        [range(start, HUGE)]
    );
    assert_eq!(partial.bytes(ALL), 0);
}

#[test]
fn a_page_with_a_live_piece_is_never_complete() {
    let mut partial = partial();
    let start = 4 * HUGE;
    insert(&mut partial, start, HUGE - 4096);
    // Inflate A, deflate A, inflate B: A is live.
    partial.remove(range(start, 4096));
    assert_eq!(insert(&mut partial, start + HUGE - 4096, 4096), []);
    assert_eq!(insert(&mut partial, start, 4096), [range(start, HUGE)]);
}

#[test]
fn a_piece_of_a_complete_page_can_be_taken_back_and_given_again() {
    let mut partial = partial();
    let start = 1 << 32;
    assert_eq!(insert(&mut partial, start, 2 * HUGE), [range(start, 2 * HUGE)]);
    partial.remove(range(start + HUGE + 8192, 4096));
    assert_eq!(partial.bytes(ALL), HUGE - 4096);
    assert_eq!(
        insert(&mut partial, start + HUGE + 8192, 4096),
        [range(start + HUGE, HUGE)]
    );
}

#[test]
fn what_is_not_in_huge_pages_passes_through() {
    let mut partial = partial();
    assert_eq!(insert(&mut partial, 4096, 8192), [range(4096, 8192)]);
    assert_eq!(
        insert(&mut partial, 4 * HUGE - 4096, 8192),
        [range(4 * HUGE - 4096, 4096)]
    );
    assert_eq!(insert(&mut partial, 1 << 50, 4096), [range(1 << 50, 4096)]);
    assert_eq!(partial.bytes(ALL), 4096);
    let [middle, above] = [range(4 * HUGE, 4 * HUGE), range(1 << 32, 2 * HUGE)];
    assert_eq!((partial.bytes(middle), partial.bytes(above)), (4096, 0));
    // Around the pages in the middle: before, the complete pages, after.
    assert_eq!(insert(&mut partial, 0, 9 * HUGE), [range(0, 9 * HUGE)]);
}

#[test]
fn clearing_forgets_everything() {
    let mut partial = partial();
    insert(&mut partial, 0, 1 << 40);
    partial.clear();
    assert_eq!(partial.bytes(ALL), 0);
    assert_eq!(insert(&mut partial, 4 * HUGE, HUGE - 4096), []);
}

#[test]
fn pieces_that_are_not_given_whole_do_not_count_and_touched_ones_are_taken_back() {
    let mut partial = partial();
    assert_eq!(insert(&mut partial, 4 * HUGE + 1, HUGE - 1), []);
    assert_eq!(partial.bytes(ALL), HUGE - 4096);
    partial.remove(range(4 * HUGE + 8191, 2));
    assert_eq!(partial.bytes(ALL), HUGE - 3 * 4096);
    insert(&mut partial, u64::MAX - 4096, u64::MAX);
    partial.remove(range(u64::MAX, u64::MAX));
    partial.remove(range(0, u64::MAX));
    assert_eq!(partial.bytes(ALL), 0);
}

#[test]
fn pages_of_1_gib_have_many_pieces() {
    let mut partial = Partial::new([(range(0, 2 << 30), PageSize::HUGE_1G)]);
    assert_eq!(insert(&mut partial, 4096, (1 << 30) - 4096), []);
    assert_eq!(insert(&mut partial, 0, 4096), [range(0, 1 << 30)]);
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u64),
    Remove(u64, u64),
    Clear,
}

fn step() -> impl Strategy<Value = Step> {
    let pieces = (0_u64..2048 + 600, prop_oneof![1_u64..20, 400_u64..1500]);
    prop_oneof![
        10 => pieces.clone().prop_map(|(start, count)| Step::Insert(start, count)),
        6 => pieces.prop_map(|(start, count)| Step::Remove(start, count)),
        1 => Just(Step::Clear),
    ]
}

proptest! {
    /// Against a set of piece numbers: four huge pages at piece 256, base pages on both sides.
    #[test]
    fn agrees_with_a_set_of_pieces(steps in prop::collection::vec(step(), 1..30)) {
        const FIRST: u64 = 512;
        let mut partial = Partial::new([(range(FIRST * 4096, 4 * HUGE), PageSize::HUGE_2M)]);
        let mut model = BTreeSet::new();
        let tracked = FIRST..FIRST + 4 * 512;
        for step in steps {
            match step {
                Step::Insert(start, count) => {
                    let mut complete = Vec::new();
                    partial.insert(range(start * 4096, count * 4096), &mut complete);
                    let given: BTreeSet<u64> = (start..start + count).collect();
                    model.extend(given.iter().copied().filter(|piece| tracked.contains(piece)));
                    let whole = |piece: u64| {
                        let page = piece / 512 * 512;
                        given.range(page..page + 512).next().is_some() && model.range(page..page + 512).count() == 512
                    };
                    let mut complete_pages = BTreeMap::new();
                    let last = (start + count).next_multiple_of(512);
                    let expected: Vec<u64> = (start / 512 * 512..last)
                        .filter(|piece| match tracked.contains(piece) {
                            true => *complete_pages.entry(piece / 512).or_insert_with(|| whole(*piece)),
                            false => given.contains(piece),
                        })
                        .collect();
                    let found: Vec<u64> = complete
                        .iter()
                        .flat_map(|range| range.start.0 / 4096..range.end() / 4096)
                        .collect();
                    prop_assert_eq!(found, expected);
                }
                Step::Remove(start, count) => {
                    partial.remove(range(start * 4096, count * 4096));
                    model.retain(|piece| !(start..start + count).contains(piece));
                }
                Step::Clear => {
                    partial.clear();
                    model.clear();
                }
            }
            let waiting: usize = (0..4)
                .map(|page| model.range(FIRST + page * 512..FIRST + (page + 1) * 512).count())
                .filter(|count| *count < 512)
                .sum();
            prop_assert_eq!(partial.bytes(ALL), waiting as u64 * 4096);
        }
    }
}
