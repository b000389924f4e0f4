//! Free page reporting over real backends.

use devices::testing::{HugePages, anonymous_ram, open_ram};
use devices::virtio::balloon::{F_MUST_TELL_HOST, F_PAGE_REPORTING, F_STATS_VQ};
use memory::backend::BackendKind;
use memory::ram::Ram;

use super::rig::*;

/// Reports 16 MiB in blocks of 2 MiB, as Linux does on x86-64: they leave the host, the rest stays.
fn leaves(ram: &Ram, used: impl Fn() -> u64) {
    let mut rig = Rig::new(ram, F_PAGE_REPORTING);
    fill(ram, FIRST..FIRST + 32 * 256);
    let before = used();
    let blocks: Vec<(u32, u32)> = (0..8).map(|block| (FIRST + 2 * HUGE * block, HUGE)).collect();
    rig.report(&blocks);
    assert_eq!(before - used(), 16 * MIB);
    let counters = rig.handle.counters();
    assert_eq!((counters.reported, counters.discarded), (16 * MIB, 0));
    for (first, pages) in blocks {
        assert_eq!(ends(ram, first), [0, 0]);
        assert_filled(ram, first + pages..first + 2 * pages);
        fill(ram, first..first + pages);
    }
    assert_eq!(used(), before);
}

#[test]
fn reported_pages_leave_the_host() {
    let _alone = alone();
    let anonymous = anonymous_ram(64);
    leaves(&anonymous, || resident(&anonymous));
    let memfd = open_ram(BackendKind::memfd(None), 64);
    leaves(&memfd, || file_bytes(&memfd));
    let tmpfs = open_ram(BackendKind::file("/dev/shm"), 64);
    leaves(&tmpfs, || file_bytes(&tmpfs));
}

/// Whole pages of 2 MiB go; pieces are neither freed nor remembered: Linux takes them again without a word.
#[test]
fn whole_huge_pages_are_reported_and_pieces_forgotten() {
    let pool = HugePages::take(16);
    let ram = huge_ram(32);
    let mut rig = Rig::new(&ram, F_MUST_TELL_HOST | F_STATS_VQ | F_PAGE_REPORTING);
    fill(&ram, FIRST..FIRST + 8 * HUGE);
    let before = pool.free();
    rig.report(&[
        (FIRST, HUGE),
        (FIRST + 2 * HUGE, HUGE),
        (FIRST + 4 * HUGE, 2 * HUGE),
    ]);
    assert_eq!(pool.free(), before + 4);
    assert_eq!(rig.handle.counters().unreserved, 8 * MIB);
    // One page and two halves.
    rig.report(&[(FIRST + 6 * HUGE + 256, HUGE), (FIRST + 7 * HUGE + 256, 256)]);
    assert_eq!(
        pool.free(),
        before + 5,
        "the second half and the third make a page"
    );
    let third = FIRST + HUGE;
    rig.report(&[(third, 256)]);
    rig.inflate(third + 256..third + HUGE);
    assert_eq!(
        pool.free(),
        before + 5,
        "a reported half and a ballooned one make none"
    );
    assert_filled(&ram, third..third + HUGE);
    let counters = rig.handle.counters();
    assert_eq!((counters.reported, counters.rounded), (10 * MIB, 2 * MIB));
    assert_eq!(counters.partial, MIB);
}
