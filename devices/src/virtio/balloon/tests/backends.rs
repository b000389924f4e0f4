//! Figures by backend.

use memory::backend::BackendSpec;
use memory::size::PageSize;

use crate::testing::HugePages;

use super::*;

/// Pages of 4 KiB in a large page.
const LARGE: u32 = 512;

/// 4 MiB each of anonymous memory, of large pages, and of a memfd.
fn three() -> Ram {
    let kinds = [
        ("anonymous", BackendKind::Ram),
        ("huge", BackendKind::memfd(Some(PageSize::HUGE_2M))),
        ("memfd", BackendKind::memfd(None)),
    ];
    let specs = kinds.map(|(id, kind)| BackendSpec::new(id, kind, ByteSize::mib(4)));
    Ram::open(specs.into(), &()).unwrap()
}

#[test]
fn every_backend_has_its_own_figures() {
    let _pool = HugePages::take(2);
    let ram = three();
    let mut rig = Rig::new(&ram, F_MUST_TELL_HOST | F_PAGE_REPORTING);
    let shown = |rig: &Rig<'_>, figure: fn(&BackendFigures) -> u64| -> Vec<u64> {
        let figures = rig.handle.by_backend();
        figures.iter().map(|backend| figure(backend) / PAGE).collect()
    };
    let [huge, memfd, end] = [2 * LARGE, 4 * LARGE, 6 * LARGE];
    // Across the first border, with one piece of the large page after it; then the rest of that page but for one.
    rig.send(INFLATE, &[huge - 2, huge - 1, huge]);
    (1..LARGE - 1).for_each(|piece| rig.send(INFLATE, &[huge + piece]));
    // Across the second border, and out of RAM.
    rig.send(INFLATE, &[memfd - 1, memfd, end - 1, end, u32::MAX]);
    assert_eq!(shown(&rig, |backend| backend.inflated), [2, 512, 2]);
    assert_eq!(shown(&rig, |backend| backend.discarded), [2, 0, 2]);
    assert_eq!(shown(&rig, |backend| backend.partial), [0, 512, 0]);
    rig.send(INFLATE, &[huge + LARGE - 1]);
    assert_eq!(shown(&rig, |backend| backend.inflated), [2, 513, 2]);
    assert_eq!(shown(&rig, |backend| backend.discarded), [2, 512, 2]);
    assert_eq!(shown(&rig, |backend| backend.partial), [0, 1, 0]);
    rig.send(DEFLATE, &[huge - 1, huge, memfd, end]);
    assert_eq!(shown(&rig, |backend| backend.inflated), [1, 512, 1]);
    assert_eq!(shown(&rig, |backend| backend.partial), [0, 512, 0]);

    // Reports are counted apart: free pages are not in the balloon.
    rig.drivers[REPORTING].describe(0, writable(memfd + 8, 4));
    rig.drivers[REPORTING].offer(0);
    rig.serve().unwrap();
    assert_eq!(shown(&rig, |backend| backend.reported), [0, 0, 4]);
    assert_eq!(shown(&rig, |backend| backend.inflated), [1, 512, 1]);
    let counters = rig.handle.counters();
    assert_eq!(
        [counters.discarded, counters.reported, counters.partial],
        [516, 4, 512].map(|pages| pages * PAGE),
        "the totals are the sums"
    );

    rig.balloon.reset();
    assert_eq!(shown(&rig, |backend| backend.inflated), [0; 3]);
    assert_eq!(shown(&rig, |backend| backend.partial), [0; 3]);
}

/// A driver that gives a page again and again, and takes back more than it gave, confuses nobody but itself.
#[test]
fn what_was_inflated_is_between_nothing_and_everything() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, 0);
    let inflated = |rig: &Rig<'_>| rig.handle.by_backend()[0].inflated;
    let pfns: Vec<u32> = (FREE..FREE + 256).collect();
    (0..2 * RAM_MIB).for_each(|_| rig.send(INFLATE, &pfns));
    assert_eq!(inflated(&rig), RAM_MIB * MIB);
    (0..2 * RAM_MIB).for_each(|_| rig.send(DEFLATE, &pfns));
    assert_eq!(inflated(&rig), 0);
}
