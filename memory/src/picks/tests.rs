use proptest::prelude::*;

use super::*;

const PAGE: u64 = 4096;

#[test]
fn few_pages_are_all_chosen() {
    let mut picks = Picks::new(8, 8);
    picks.show(0, PAGE, 5);
    picks.show(1 << 30, PAGE, 3);
    let expected: Vec<u64> = (0..5)
        .map(|page| page * PAGE)
        .chain((0..3).map(|page| (1 << 30) + page * PAGE))
        .collect();
    assert_eq!((picks.addresses(), picks.stretch()), (&expected[..], 1));
    picks.show(1 << 31, PAGE, 1);
    assert_eq!(picks.stretch(), 2);
    assert!(picks.addresses().len() <= 5);
}

#[test]
fn no_rhythm_of_the_pages_is_followed() {
    // Pages in turn on 2, 3, 4 nodes, or in turns of 8 pages.
    for (nodes, turn) in [(2, 1), (3, 1), (4, 1), (2, 8)] {
        let mut picks = Picks::new(16384, 8192);
        picks.show(0, PAGE, 1 << 20);
        let first = picks
            .addresses()
            .iter()
            .filter(|address| (*address / PAGE / turn).is_multiple_of(nodes));
        let (first, all) = (first.count() as u64, picks.addresses().len() as u64);
        // More than 5 standard deviations.
        assert!(
            (first * nodes).abs_diff(all) < nodes * 250,
            "{first} of {all}, one of {nodes} nodes"
        );
    }
}

proptest! {
    /// However the pages are cut into runs, each whole stretch has one choice, in order, among the pages shown.
    #[test]
    fn each_stretch_has_one(runs in prop::collection::vec(1_u64..3000, 1..40), all in 2_usize..300, some in 2_usize..300) {
        let mut picks = Picks::new(all, some);
        let mut pages = Vec::new();
        for (index, run) in (0_u64..).zip(&runs) {
            picks.show(index << 32, PAGE, *run);
            pages.extend((0..*run).map(|page| (index << 32) + page * PAGE));
        }
        let stretch = usize::try_from(picks.stretch()).unwrap();
        let (all, some) = (all.next_power_of_two(), some.next_power_of_two().min(all.next_power_of_two()));
        prop_assert_eq!(stretch == 1, pages.len() <= all);
        prop_assert!(stretch == 1 || (some / 2..=some).contains(&picks.addresses().len()));
        let whole = pages.len() / stretch;
        prop_assert!((whole..=whole + 1).contains(&picks.addresses().len()));
        for (chosen, among) in picks.addresses().iter().zip(pages.chunks(stretch)) {
            prop_assert!(among.contains(chosen));
        }
    }
}
