//! What leaves the host, read from the host.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};

use crate::backend::{BackendKind, FileSpec, Lock, Prealloc, Released};
use crate::effective::Effective;
use crate::ram::Ram;
use crate::range::GuestRange;
use crate::release::{Reason, Releaser};
use crate::size::{ByteSize, PageSize};
use crate::testing::{
    HUGE, HUGE_MEMFD, HugePages, MEMFD, MIB, Mount, Settings, directory, open, resident, spec,
};

fn range(start: u64, len: u64) -> GuestRange {
    GuestRange::new(GuestAddress(start), len)
}

fn filled(kind: BackendKind, mib: u64) -> Ram {
    let mut spec = spec(kind, mib);
    spec.prealloc = Prealloc::On;
    open(spec).unwrap()
}

/// Releases the first half and every second page of the third quarter, and looks at what is left.
fn check(ram: &Ram, page: PageSize) {
    let page = page.bytes();
    let size = ram.size().bytes();
    let memory = ram.memory();
    for address in (0..size).step_by(usize::try_from(page).unwrap()) {
        memory.write_obj(address | 1, GuestAddress(address)).unwrap();
    }
    assert_eq!(resident(ram), size);
    let half = ram.release(&[range(0, size / 2)]);
    assert_eq!(half.discarded, size / 2);
    assert_eq!(resident(ram), size / 2);
    let scattered: Vec<_> = (size / 2..size * 3 / 4)
        .step_by(usize::try_from(2 * page).unwrap())
        .map(|start| range(start, page))
        .collect();
    let released = ram.release(&scattered);
    assert_eq!(released.discarded, size / 8, "{released:?}");
    assert_eq!(resident(ram), size * 3 / 8);
    for address in (0..size).step_by(usize::try_from(page).unwrap()) {
        let gone = address < size / 2
            || scattered
                .iter()
                .any(|range| range.contains(GuestAddress(address)));
        let expected = if gone { 0 } else { address | 1 };
        assert_eq!(
            memory.read_obj::<u64>(GuestAddress(address)).unwrap(),
            expected,
            "{address:#x}"
        );
    }
}

#[test]
fn anonymous_memory_leaves() {
    check(&filled(BackendKind::Ram, 64), PageSize::BASE);
}

#[test]
fn memfd_memory_leaves() {
    check(&filled(MEMFD, 64), PageSize::BASE);
    let mut shared = spec(BackendKind::Ram, 64);
    (shared.share, shared.prealloc) = (Some(true), Prealloc::On);
    check(&open(shared).unwrap(), PageSize::BASE);
}

#[test]
fn tmpfs_memory_leaves() {
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    check(&filled(directory(shm.path()), 64), PageSize::BASE);
}

/// Locked memory cannot be swapped out, and yet leaves.
#[test]
fn locked_memory_leaves() {
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    for kind in [BackendKind::Ram, MEMFD, directory(shm.path())] {
        for lock in [Lock::On, Lock::OnFault] {
            let mut locked = spec(kind.clone(), 32);
            locked.lock = lock;
            if lock == Lock::On {
                locked.prealloc = Prealloc::On;
            }
            let ram = open(locked).unwrap();
            let effective = ram.backends()[0].effective();
            assert!(effective.lock, "{kind:?}: {effective:?}");
            assert_eq!(resident(&ram) > 0, lock == Lock::On, "{kind:?}");
            check(&ram, PageSize::BASE);
        }
    }
}

#[test]
fn memory_of_named_files_leaves() {
    let _pool = HugePages::with_free(32);
    let mount = Mount::new("hugetlbfs", "pagesize=2M");
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    for (place, page) in [(shm.path(), PageSize::BASE), (mount.path(), PageSize::HUGE_2M)] {
        for lock in [Lock::Off, Lock::On] {
            check(&named(place, lock), page);
        }
    }
}

/// RAM in a file that is larger.
fn named(place: &Path, lock: Lock) -> Ram {
    let mut file = FileSpec::new(place.join("ram"));
    (file.discard, file.offset) = (true, ByteSize::mib(4));
    let mut spec = spec(BackendKind::File(file), 32);
    (spec.share, spec.prealloc, spec.lock) = (Some(true), Prealloc::On, lock);
    open(spec).unwrap()
}

/// A file system caches a disk in pieces of its own size, and keeps one of which a part is left.
#[test]
fn the_cache_of_a_disk_leaves() {
    let disk = tempfile::tempdir_in("/var/tmp").unwrap();
    for lock in [Lock::Off, Lock::On] {
        let ram = named(disk.path(), lock);
        for address in (0..32 * MIB).step_by(4096) {
            ram.memory()
                .write_obj(address | 1, GuestAddress(address))
                .unwrap();
        }
        assert_eq!(resident(&ram), 32 * MIB);
        let released = ram.release(&[range(0, 16 * MIB)]);
        assert_eq!((released.discarded, resident(&ram)), (16 * MIB, 16 * MIB));
        let read = |address| ram.memory().read_obj::<u64>(GuestAddress(address)).unwrap();
        assert_eq!((read(0), read(16 * MIB)), (0, (16 * MIB) | 1));
    }
}

#[test]
fn huge_pages_leave() {
    let _pool = HugePages::with_free(32);
    check(&filled(HUGE_MEMFD, 64), PageSize::HUGE_2M);
    let mount = Mount::new("hugetlbfs", "pagesize=2M");
    let ram = filled(directory(mount.path()), 64);
    assert_eq!(HugePages::free_and_reserved().0, 0);
    assert_eq!(ram.release(&[range(0, 16 * HUGE)]).discarded, 16 * HUGE);
    assert_eq!(HugePages::free_and_reserved().0, 16);
}

#[test]
fn a_piece_of_a_huge_page_is_neither_freed_nor_zeroed() {
    let _pool = HugePages::with_free(4);
    let ram = filled(HUGE_MEMFD, 8);
    let memory = ram.memory();
    for piece in (0..8 * MIB).step_by(4096) {
        memory.write_obj(!0_u64, GuestAddress(piece)).unwrap();
    }
    let released = ram.release(&[
        range(4096, 4096),
        range(HUGE + 4096, 2 * HUGE - 8192),
        range(0, 4096),
    ]);
    let expected = Released {
        rounded: 8192 + 2 * HUGE - 8192,
        ..Released::default()
    };
    assert_eq!(released, expected);
    assert_eq!(resident(&ram), 8 * MIB);
    for piece in (0..8 * MIB).step_by(4096) {
        assert_eq!(
            memory.read_obj::<u64>(GuestAddress(piece)).unwrap(),
            !0,
            "{piece:#x}"
        );
    }
    // Two halves that touch are one page.
    let released = ram.release(&[range(HUGE + HUGE / 2, HUGE / 2), range(HUGE, HUGE / 2)]);
    assert_eq!((released.discarded, released.rounded), (HUGE, 0));
    assert_eq!(resident(&ram), 6 * MIB);
}

#[test]
fn a_released_page_can_be_used_again() {
    let _pool = HugePages::with_free(4);
    for kind in [BackendKind::Ram, MEMFD, HUGE_MEMFD] {
        let ram = filled(kind, 8);
        let _ = ram.release(&[range(0, 8 * MIB)]);
        assert_eq!(resident(&ram), 0);
        ram.memory().write_obj(5_u8, GuestAddress(MIB)).unwrap();
        assert!(resident(&ram) > 0);
    }
}

#[test]
fn what_is_not_ram_is_counted_and_left_alone() {
    let ram = filled(BackendKind::Ram, 4);
    let released = ram.release(&[
        range(4 * MIB - 4096, 8192),
        range(1 << 40, 4096),
        range(u64::MAX - 4095, 4096),
        range(u64::MAX, u64::MAX),
    ]);
    assert_eq!(released.discarded, 4096);
    assert_eq!(released.outside, u64::MAX, "saturated");
    let released = ram.release(&[range(0, 1), range(MIB + 1, 8191)]);
    assert_eq!((released.discarded, released.rounded), (4096, 4096));
    assert_eq!(ram.release(&[]), Released::default());
    assert_eq!(ram.release(&[range(0, 0)]), Released::default());
    assert_eq!(resident(&ram), 4 * MIB - 8192);
}

#[test]
fn a_range_over_several_backends_is_split() {
    let mut second = spec(MEMFD, 4);
    second.id = "mem1".to_owned();
    let mut first = spec(BackendKind::Ram, 4);
    (first.prealloc, second.prealloc) = (Prealloc::On, Prealloc::On);
    let ram = Ram::open(vec![first, second], &()).unwrap();
    let released = ram.release(&[range(3 * MIB, 2 * MIB), range(3 * MIB, 2 * MIB)]);
    assert_eq!(released.discarded, 2 * MIB, "given twice, released once");
    let residency = ram.residency().unwrap();
    assert_eq!(residency[0].resident.bytes(), 3 * MIB);
    assert_eq!(residency[1].resident.bytes(), 3 * MIB);
}

#[test]
fn more_ranges_than_one_call_takes() {
    for kind in [BackendKind::Ram, MEMFD] {
        let ram = filled(kind, 64);
        let ranges: Vec<_> = (0..8192).map(|index| range(index * 8192, 4096)).collect();
        assert_eq!(ram.release(&ranges).discarded, 32 * MIB);
        assert_eq!(resident(&ram), 32 * MIB);
    }
}

/// khugepaged at its most eager.
fn eager_khugepaged() -> Settings {
    let eager = [("pages_to_scan", "1000000"), ("scan_sleep_millisecs", "10")];
    Settings::change("/sys/kernel/mm/transparent_hugepage/khugepaged", &eager)
}

#[test]
fn scattered_pages_stay_away_although_khugepaged_looks_for_holes() {
    let _eager = eager_khugepaged();
    let ram = filled(BackendKind::Ram, 64);
    let scattered: Vec<_> = (0..8192).map(|index| range(index * 8192, 4096)).collect();
    let _ = ram.release(&scattered);
    sleep(Duration::from_secs(2));
    assert_eq!(resident(&ram), 32 * MIB);
    // Huge pages come back when the holes are allowed to go.
    ram.all_in_use();
    let end = Instant::now() + Duration::from_secs(60);
    while resident(&ram) < 64 * MIB && !read_never() {
        assert!(Instant::now() < end, "{:?}", ram.residency());
        sleep(Duration::from_millis(100));
    }
}

fn read_never() -> bool {
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap();
    setting.contains("[never]")
}

fn thp(ram: &Ram) -> bool {
    let backend = &ram.backends()[0].opened;
    Effective::read(backend.source.as_ref(), &backend.mapping)
        .unwrap()
        .thp
}

#[test]
fn whole_huge_pages_cost_no_transparent_huge_pages() {
    let ram = filled(BackendKind::Ram, 64);
    let _ = ram.release(&[range(2 * HUGE, 3 * HUGE)]);
    assert_eq!(thp(&ram), !read_never());
    let _ = ram.release(&[range(0, 4096)]);
    assert!(!thp(&ram));
}

#[test]
fn a_releaser_says_which_backend_gave_what() {
    let mut second = spec(MEMFD, 4);
    second.id = "mem1".to_owned();
    let ram = Ram::open(vec![spec(BackendKind::Ram, 4), second], &()).unwrap();
    let mut releaser = Releaser::new(ram.clone());
    assert_eq!(
        releaser
            .release(&[range(3 * MIB, 2 * MIB)], Reason::Inflated)
            .discarded,
        2 * MIB
    );
    assert_eq!(releaser.discarded(), [MIB, MIB]);
    assert_eq!(
        releaser.release(&[range(0, 4096)], Reason::Reported).discarded,
        4096
    );
    assert_eq!(releaser.discarded(), [4096, 0]);
}

/// A shared huge page that went has no reservation: another may take it, and then it cannot be had again.
#[test]
fn a_page_is_provided_again_while_the_pool_has_one() {
    let _pool = HugePages::with_free(4);
    let ram = filled(HUGE_MEMFD, 8);
    let mut releaser = Releaser::new(ram.clone());
    let mut absent = ram.absent();
    for page in [0, HUGE] {
        ram.memory()
            .write_obj(7_u8, GuestAddress(2 * HUGE + page))
            .unwrap();
    }
    let gone = range(HUGE, HUGE);
    assert_eq!(releaser.release(&[gone], Reason::Inflated).discarded, HUGE);
    absent.insert(gone);
    assert_eq!(
        (absent.unreserved(), HugePages::free_and_reserved()),
        (HUGE, (1, 0))
    );

    let other = filled(HUGE_MEMFD, 2);
    assert!(!releaser.populate(gone), "the pool is empty");
    assert!(releaser.populate(range(2 * HUGE, 2 * HUGE)), "these are there");
    assert!(
        releaser.populate(range(HUGE + 4096, 4096)),
        "nothing whole is asked"
    );
    drop(other);
    assert!(releaser.populate(gone));
    assert_eq!(HugePages::free_and_reserved(), (0, 0));
    for page in [0, HUGE] {
        assert_eq!(
            ram.memory()
                .read_obj::<u8>(GuestAddress(2 * HUGE + page))
                .unwrap(),
            7
        );
    }
}
