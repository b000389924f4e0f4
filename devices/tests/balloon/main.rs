//! The balloon over real backends: what left the host is read from the kernel, never from our own counters.

#![allow(clippy::unwrap_used, reason = "a test")]

mod report;
mod reset;
mod rig;
mod short;
mod syscalls;

use std::fs;
use std::sync::Arc;

use devices::bus::BusDevice;
use devices::fault::Faults;
use devices::pci::PciFunction;
use devices::pci::PciRoot;
use devices::testing::{Driver, HugePages, anonymous_ram, open_ram, wait_for};
use devices::virtio::balloon::{F_DEFLATE_ON_OOM, F_MUST_TELL_HOST};
use memory::backend::BackendKind;
use memory::layout::{HOLE_END, HOLE_START};
use memory::ram::Ram;
use proptest::prelude::*;

use rig::*;

/// Writes 32 MiB, inflates 24 of them: they leave the host, the rest stays as it is; deflates: they can be used again.
fn gives_back(ram: &Ram, used: impl Fn() -> u64) {
    let all = FIRST..FIRST + 32 * 256;
    let gone = FIRST..FIRST + 24 * 256;
    let mut rig = Rig::new(ram, F_DEFLATE_ON_OOM);
    fill(ram, all.clone());
    let before = used();
    assert!(before >= 32 * MIB);
    // Back to front and in pieces of 1 MiB: the order of pages is not ours to choose.
    rig.inflate(gone.clone().rev());
    let freed = before - used();
    assert!((24 * MIB * 95 / 100..=24 * MIB).contains(&freed), "freed {freed}");
    assert_eq!(rig.handle.counters().discarded, 24 * MIB);
    assert_filled(ram, gone.end..all.end);
    for pfn in gone.clone() {
        assert_eq!(ends(ram, pfn), [0, 0]);
    }
    rig.deflate(gone.clone());
    fill(ram, gone.clone());
    assert_filled(ram, all);
    assert!(used() >= before);
    assert_eq!(rig.handle.counters().partial, 0);
}

#[test]
fn anonymous_memory_leaves_the_host() {
    let _alone = alone();
    let ram = anonymous_ram(64);
    gives_back(&ram, || resident(&ram));
}

#[test]
fn memfd_memory_leaves_the_host() {
    let _alone = alone();
    let ram = open_ram(BackendKind::memfd(None), 64);
    gives_back(&ram, || file_bytes(&ram));
    assert!(resident(&ram) >= 32 * MIB);
}

#[test]
fn tmpfs_memory_leaves_the_host() {
    let _alone = alone();
    let ram = open_ram(BackendKind::file("/dev/shm"), 64);
    gives_back(&ram, || file_bytes(&ram));
}

/// Ranges that cross the end of a region or the 32-bit hole are clamped to what is RAM.
#[test]
fn pages_around_the_hole_are_clamped() {
    let _alone = alone();
    let ram = anonymous_ram(3 * 1024 + 16);
    let mut rig = Rig::new(&ram, 0);
    let [hole, end] = [HOLE_START, HOLE_END].map(|at| u32::try_from(at / PAGE).unwrap());
    let top = end + 16 * 256;
    let live = [hole - 3, end + 2, top - 3];
    fill(
        &ram,
        [hole - 2, hole - 1, end, end + 1, top - 2, top - 1]
            .into_iter()
            .chain(live),
    );
    // The page numbers' own page shall be there before we count.
    rig.inflate([u32::MAX]);
    let before = resident(&ram);
    rig.inflate([
        hole - 2,
        hole - 1,
        hole,
        hole + 1,
        end - 1,
        end,
        end + 1,
        top - 2,
        top - 1,
        top,
        top + 1,
    ]);
    assert_eq!(rig.handle.counters().discarded, 6 * PAGE);
    assert_eq!(before - resident(&ram), 6 * PAGE);
    assert_filled(&ram, live);
    rig.inflate([hole, u32::MAX, 0xf_ffff, top]);
    assert_eq!(rig.handle.counters().discarded, 6 * PAGE);
    assert_filled(&ram, live);
}

/// A large page leaves when its last piece arrives, over as many kicks as that takes.
#[test]
fn huge_pages_leave_with_their_last_piece() {
    let pool = HugePages::take(8);
    let ram = huge_ram(16);
    let mut rig = Rig::new(&ram, F_MUST_TELL_HOST);
    let pages = FIRST..FIRST + 2 * HUGE;
    fill(&ram, pages.clone());
    let before = pool.free();
    // One piece of each is missing.
    rig.inflate(pages.clone().filter(|pfn| pfn % HUGE != 77));
    assert_eq!(pool.free(), before);
    assert_eq!(rig.handle.counters().partial, 2 * 511 * PAGE);
    rig.inflate([FIRST + 77]);
    assert_eq!(pool.free(), before + 1);
    rig.inflate([FIRST + HUGE + 77]);
    assert_eq!(pool.free(), before + 2);
    let counters = rig.handle.counters();
    assert_eq!((counters.discarded, counters.partial), (4 * MIB, 0));
    // One piece comes back, is used, and goes again.
    rig.deflate([FIRST + 5]);
    fill(&ram, [FIRST + 5]);
    assert_eq!(pool.free(), before + 1);
    rig.inflate([FIRST + 5]);
    assert_eq!(pool.free(), before + 2);
    rig.deflate(pages.clone());
    fill(&ram, pages.clone());
    assert_filled(&ram, pages);
    assert_eq!(pool.free(), before);
}

/// Inflate A, deflate A, inflate B: A is live again, so the page that holds both must stay.
#[test]
fn a_piece_that_came_back_is_not_discarded() {
    let pool = HugePages::take(8);
    let ram = huge_ram(16);
    let mut rig = Rig::new(&ram, F_MUST_TELL_HOST);
    let page = FIRST..FIRST + HUGE;
    fill(&ram, page.clone());
    let before = pool.free();
    let (a, b) = (FIRST..FIRST + 256, FIRST + 256..FIRST + HUGE);
    rig.inflate(a.clone());
    rig.deflate(a.clone());
    fill(&ram, a.clone());
    rig.inflate(b.clone());
    assert_eq!(pool.free(), before);
    assert_filled(&ram, a.clone());
    assert_eq!(rig.handle.counters().partial, MIB);
    rig.inflate(a);
    assert_eq!(pool.free(), before + 1);
}

/// Both queues wait in the same kick: the deflate is looked at first.
#[test]
fn deflates_go_before_inflates() {
    let pool = HugePages::take(8);
    let ram = huge_ram(16);
    let mut rig = Rig::new(&ram, F_MUST_TELL_HOST);
    fill(&ram, FIRST..FIRST + HUGE);
    let before = pool.free();
    rig.inflate(FIRST..FIRST + 256);
    let kept: Vec<u32> = (FIRST..FIRST + 256).collect();
    let rest: Vec<u32> = (FIRST + 256..FIRST + HUGE).collect();
    rig.queues[DEFLATE].describe_pfns(0, PFNS, &kept);
    rig.queues[INFLATE].describe_pfns(0, PFNS + PAGE, &rest);
    rig.queues[DEFLATE].offer(0);
    rig.queues[INFLATE].offer(0);
    Driver::new(&rig.device).notify(0);
    wait_for("both", || {
        rig.queues[INFLATE].used_index() == 2 && rig.queues[DEFLATE].used_index() == 1
    });
    assert_eq!(pool.free(), before);
    assert_filled(&ram, kept);
}

/// Without MUST_TELL_HOST a driver may use a page again untold: pieces count within one kick only.
#[test]
fn pieces_are_forgotten_without_must_tell_host() {
    let pool = HugePages::take(8);
    let ram = huge_ram(16);
    let mut rig = Rig::new(&ram, F_DEFLATE_ON_OOM);
    fill(&ram, FIRST..FIRST + 2 * HUGE);
    let before = pool.free();
    rig.inflate(FIRST..FIRST + HUGE);
    assert_eq!((pool.free(), rig.handle.counters().partial), (before, 0));
    assert_filled(&ram, FIRST..FIRST + HUGE);
    // Two chains in one kick make a whole page.
    let halves = [FIRST + HUGE, FIRST + HUGE + 256].map(|first| (first..first + 256).collect::<Vec<u32>>());
    for (index, half) in (0..).zip(&halves) {
        rig.queues[INFLATE].describe_pfns(index, PFNS + PAGE * u64::from(index), half);
        rig.queues[INFLATE].offer(index);
    }
    Driver::new(&rig.device).notify(0);
    wait_for("both chains", || rig.queues[INFLATE].used_index() == 4);
    assert_eq!(pool.free(), before + 1);
}

/// A driver that is gone has taken all its pages with it.
/// The flags of the mapping that holds the first byte of RAM (proc(5), `VmFlags`).
fn flags(ram: &Ram) -> Vec<String> {
    let start = format!("{:x}-", ram.regions()[0].host_address());
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut lines = smaps.lines().skip_while(|line| !line.starts_with(&start));
    let flags = lines.find_map(|line| line.strip_prefix("VmFlags:")).unwrap();
    flags.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn an_empty_balloon_allows_transparent_huge_pages_again() {
    let _alone = alone();
    let ram = anonymous_ram(8);
    let has = |flag: &str| flags(&ram).iter().any(|found| found == flag);
    let mut rig = Rig::new(&ram, F_DEFLATE_ON_OOM);
    assert!(has("hg"), "{:?}", flags(&ram));
    rig.inflate((FIRST..FIRST + HUGE).step_by(2));
    assert!(has("nh"), "khugepaged may fill the holes: {:?}", flags(&ram));
    rig.device.reset();
    assert!(has("hg"), "{:?}", flags(&ram));
}

#[test]
fn reset_forgets_the_pieces() {
    let pool = HugePages::take(8);
    let ram = huge_ram(16);
    let mut rig = Rig::new(&ram, F_MUST_TELL_HOST);
    fill(&ram, FIRST..FIRST + HUGE);
    let before = pool.free();
    rig.inflate(FIRST..FIRST + 256);
    rig.start(F_MUST_TELL_HOST);
    assert_eq!(rig.handle.counters().partial, 0);
    rig.inflate(FIRST + 256..FIRST + HUGE);
    assert_eq!(pool.free(), before);
    assert_filled(&ram, FIRST..FIRST + 256);
    rig.device.reset();
    rig.start(F_MUST_TELL_HOST);
    rig.inflate(FIRST..FIRST + 256);
    assert_eq!(pool.free(), before);
}

/// A deflate that cannot be read takes something back, and nobody knows what.
#[test]
fn an_unreadable_deflate_forgets_the_pieces() {
    let pool = HugePages::take(8);
    let ram = huge_ram(16);
    let mut rig = Rig::new(&ram, F_MUST_TELL_HOST);
    fill(&ram, FIRST..FIRST + HUGE);
    let before = pool.free();
    rig.inflate(FIRST..FIRST + 256);
    rig.queues[DEFLATE].describe_pfns(0, PFNS, &vec![FIRST; 257]);
    rig.queues[DEFLATE].offer(0);
    Driver::new(&rig.device).notify(1);
    wait_for("the chain", || rig.queues[DEFLATE].used_index() == 1);
    rig.inflate(FIRST + 256..FIRST + HUGE);
    assert_eq!(pool.free(), before);
    assert_filled(&ram, FIRST..FIRST + HUGE);
}

#[test]
fn must_tell_host_is_offered_for_large_pages_only() {
    let small = anonymous_ram(8);
    let offered = |ram: &Ram| Driver::new(&Rig::new(ram, 0).device).offered() & F_MUST_TELL_HOST;
    assert_eq!(offered(&small), 0);
    let _pool = HugePages::take(8);
    assert_eq!(offered(&huge_ram(16)), F_MUST_TELL_HOST);
}

/// Inflates and resets race: whoever wins, the device comes back, and live pages stay.
#[test]
fn resets_amid_inflates_lose_nothing() {
    let _alone = alone();
    let ram = anonymous_ram(64);
    let mut rig = Rig::new(&ram, 0);
    let live = FIRST + 8 * 256..FIRST + 16 * 256;
    fill(&ram, live.clone());
    for round in 0..100 {
        for (index, first) in (0..8).map(|index| (index, FIRST + 256 * u32::from(index))) {
            let pfns: Vec<u32> = (first..first + 256).collect();
            rig.queues[INFLATE].describe_pfns(index, PFNS + PAGE * u64::from(index), &pfns);
            rig.queues[INFLATE].offer(index);
        }
        Driver::new(&rig.device).notify(0);
        if round % 2 == 0 {
            rig.device.reset();
        }
        rig.start(0);
    }
    assert_filled(&ram, live);
}

/// The device as a guest meets it: through ECAM and the window, with the BAR moved by the guest.
#[test]
fn a_guest_finds_it_by_enumeration() {
    let ram = anonymous_ram(8);
    let rig = Rig::new(&ram, 0);
    let faults = Arc::new(Faults::new());
    let root = PciRoot::new(Arc::clone(&faults));
    root.add(1, rig.device.clone()).unwrap();
    let (ecam, window) = (root.ecam(), root.window());
    let read = |device: &dyn BusDevice, offset| {
        let mut data = [0; 4];
        device.read(offset, &mut data);
        u32::from_le_bytes(data)
    };
    assert_eq!(read(&*ecam, 1 << 15), 0x1045_1af4);
    let _ = ecam.write((1 << 15) + 0x10, &0xc123_0000_u32.to_le_bytes());
    assert_eq!(read(&*window, 0x123_0000 + 0x14) & 0xff, 15);
    assert_eq!(read(&*window, 0x14), u32::MAX, "nothing is left at the old place");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Inflate,
    Deflate,
    Restart,
}

/// Steps over runs of pages: kind, first page, number.
fn steps(pages: u32) -> impl Strategy<Value = Vec<(Step, u32, u32)>> {
    let kind = prop_oneof![8 => Just(Step::Inflate), 5 => Just(Step::Deflate), 1 => Just(Step::Restart)];
    prop::collection::vec((kind, 0..pages, prop_oneof![1..8_u32, 200..600_u32]), 1..40)
}

/// Runs `steps` against the balloon and a model of which pages are in it: pages that the model says are the guest's
/// keep what the guest wrote.
fn keeps_live_pages(ram: &Ram, features: u64, pages: u32, steps: &[(Step, u32, u32)]) {
    let mut rig = Rig::new(ram, features);
    let mut inside = vec![false; pages as usize];
    fill(ram, FIRST..FIRST + pages);
    for (step, first, count) in steps {
        let run = *first..(first + count).min(pages);
        match step {
            Step::Inflate => {
                let chosen: Vec<u32> = run.filter(|page| !inside[*page as usize]).collect();
                rig.inflate(chosen.iter().map(|page| FIRST + page));
                chosen.iter().for_each(|page| inside[*page as usize] = true);
            }
            Step::Deflate => {
                let chosen: Vec<u32> = run.filter(|page| inside[*page as usize]).collect();
                rig.deflate(chosen.iter().map(|page| FIRST + page));
                chosen.iter().for_each(|page| inside[*page as usize] = false);
                fill(ram, chosen.iter().map(|page| FIRST + page));
            }
            Step::Restart => {
                rig.start(features);
                fill(ram, FIRST..FIRST + pages);
                inside.fill(false);
            }
        }
        assert_filled(
            ram,
            (0..pages)
                .filter(|page| !inside[*page as usize])
                .map(|page| FIRST + page),
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn live_pages_survive_on_small_pages(steps in steps(2048)) {
        thread_local!(static RAM: Ram = anonymous_ram(16));
        RAM.with(|ram| keeps_live_pages(ram, F_DEFLATE_ON_OOM, 2048, &steps));
    }

    #[test]
    fn live_pages_survive_on_memfd(steps in steps(2048)) {
        let ram = open_ram(BackendKind::memfd(None), 16);
        keeps_live_pages(&ram, 0, 2048, &steps);
    }
}

#[test]
fn live_pages_survive_on_huge_pages() {
    let _pool = HugePages::take(8);
    let ram = huge_ram(16);
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(24)
    };
    for features in [F_MUST_TELL_HOST, F_MUST_TELL_HOST | F_DEFLATE_ON_OOM, 0] {
        let mut runner = proptest::test_runner::TestRunner::new(config.clone());
        let run = runner.run(&steps(3 * HUGE), |steps| {
            keeps_live_pages(&ram, features, 3 * HUGE, &steps);
            Ok(())
        });
        run.unwrap();
    }
}
