//! What a walk of the page tables says, beside smaps and numa_maps.

use vm_memory::{Bytes, GuestAddress};

use crate::backend::{BackendKind, Lock, Prealloc, Thp};
use crate::mapping::Advice;
use crate::pagemap::Pagemap;
use crate::proc;
use crate::ram::Ram;
use crate::residency::Residency;
use crate::size::{ByteSize, PageSize};
use crate::testing::{HUGE_MEMFD, HugePages, MEMFD, MIB, Settings, open, spec};

/// What is found, once /proc has said the same.
fn compared(ram: &Ram) -> Residency {
    let found = ram.residency().unwrap().swap_remove(0);
    let mapping = &ram.backends()[0].opened.mapping;
    let smaps = proc::smaps(mapping).unwrap();
    let huge = smaps.size("AnonHugePages").bytes() + smaps.size("ShmemPmdMapped").bytes();
    assert_eq!(found.transparent_huge.bytes(), huge, "{found:?}");
    let numa = proc::numa_maps(mapping).unwrap().unwrap();
    let expected = numa
        .nodes
        .iter()
        .map(|(node, pages)| (*node, pages * numa.page_kib * 1024));
    let nodes = found.nodes.iter().map(|node| (node.node, node.bytes.bytes()));
    assert!(nodes.eq(expected), "{found:?} {numa:?}");
    assert!(found.nodes_exact);
    assert_eq!(found.swapped, smaps.size("Swap"));
    found
}

fn lazy(kind: BackendKind, mib: u64, thp: Thp) -> Ram {
    let mut spec = spec(kind, mib);
    spec.thp = thp;
    open(spec).unwrap()
}

/// Touches every third page.
fn touch_some(ram: &Ram) -> u64 {
    let pages = (0..ram.size().bytes()).step_by(3 * 4096);
    let count = pages.clone().count() as u64;
    pages.for_each(|address| ram.memory().write_obj(1_u8, GuestAddress(address)).unwrap());
    count * 4096
}

#[test]
fn a_walk_says_what_smaps_and_numa_maps_say() {
    for kind in [BackendKind::Ram, MEMFD] {
        let ram = lazy(kind.clone(), 32, Thp::Off);
        assert_eq!(compared(&ram).resident, ByteSize::ZERO);
        let touched = touch_some(&ram);
        let found = compared(&ram);
        assert_eq!(
            (found.resident.bytes(), found.transparent_huge),
            (touched, ByteSize::ZERO),
            "{kind:?}"
        );
        assert_eq!(found.locked, ByteSize::ZERO);
    }
}

#[test]
fn pages_of_a_pool_are_counted() {
    let _pool = HugePages::with_free(4);
    let ram = lazy(HUGE_MEMFD, 8, Thp::Default);
    ram.memory().write_obj(1_u8, GuestAddress(3 * MIB)).unwrap();
    let found = compared(&ram);
    assert_eq!(
        (found.resident, found.transparent_huge),
        (ByteSize::mib(2), ByteSize::ZERO)
    );
    assert_eq!(found.nodes[0].page_size, PageSize::HUGE_2M);
}

#[test]
fn transparent_huge_pages_are_counted() {
    let thp = "/sys/kernel/mm/transparent_hugepage";
    let _settings = Settings::change(thp, &[("enabled", "madvise")]);
    let mut filled = spec(BackendKind::Ram, 32);
    (filled.thp, filled.prealloc) = (Thp::On, Prealloc::On);
    let ram = open(filled).unwrap();
    let found = compared(&ram);
    assert_eq!(found.resident, ByteSize::mib(32));
    let by_node = found.nodes.iter().filter_map(|node| node.transparent_huge);
    assert_eq!(
        by_node.map(ByteSize::bytes).sum::<u64>(),
        found.transparent_huge.bytes()
    );
    assert!(found.transparent_huge > ByteSize::ZERO);
}

/// Reading untouched memory maps the kernel's page of zeroes, small or huge, which costs nothing.
#[test]
fn the_page_of_zeroes_is_not_resident() {
    let thp = "/sys/kernel/mm/transparent_hugepage";
    let _settings = Settings::change(thp, &[("enabled", "madvise"), ("use_zero_page", "1")]);
    for thp in [Thp::Off, Thp::On] {
        let ram = lazy(BackendKind::Ram, 16, thp);
        for address in (0..16 * MIB).step_by(4096) {
            assert_eq!(ram.memory().read_obj::<u8>(GuestAddress(address)).unwrap(), 0);
        }
        let found = compared(&ram);
        assert_eq!((found.resident, found.nodes), (ByteSize::ZERO, vec![]), "{thp:?}");
        assert_eq!(ram.backends()[0].resident().unwrap(), ByteSize::ZERO, "{thp:?}");
    }
}

#[test]
fn what_is_locked_is_told() {
    let mut locked = spec(BackendKind::Ram, 8);
    locked.lock = Lock::OnFault;
    let ram = open(locked).unwrap();
    assert_eq!(compared(&ram).locked, ByteSize::ZERO);
    let touched = touch_some(&ram);
    let found = compared(&ram);
    assert_eq!(found.locked, found.resident);
    assert!(found.locked.bytes() >= touched);
}

/// The sums stay exact where nodes are an estimate, and the estimate adds up to them.
#[test]
fn the_nodes_of_much_memory_are_an_estimate() {
    for kind in [BackendKind::Ram, MEMFD] {
        let mut filled = spec(kind, 96);
        (filled.thp, filled.prealloc) = (Thp::Off, Prealloc::On);
        let ram = open(filled).unwrap();
        let found = ram.residency().unwrap().swap_remove(0);
        assert!(!found.nodes_exact);
        assert_eq!(found.resident, ByteSize::mib(96));
        let sum: u64 = found.nodes.iter().map(|node| node.bytes.bytes()).sum();
        assert!(
            sum <= 96 * MIB && sum > 96 * MIB - 4096 * found.nodes.len() as u64,
            "{sum}"
        );
        let backend = &ram.backends()[0];
        backend
            .opened
            .mapping
            .advise(backend.opened.mapping.whole(), Advice::DontNeed)
            .unwrap();
        let gone = ram.residency().unwrap().swap_remove(0);
        assert!(gone.nodes_exact && gone.nodes.is_empty());
    }
}

/// Processor time of this thread in ms (`/proc/thread-self/schedstat`), exact to a tick of the scheduler.
fn spent() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds: f64 = text.split_whitespace().next().unwrap().parse().unwrap();
    nanoseconds / 1e6
}

#[test]
fn a_sample_costs_much_less_than_reading_smaps_and_numa_maps() {
    let mut filled = spec(BackendKind::Ram, 256);
    (filled.thp, filled.prealloc) = (Thp::Off, Prealloc::On);
    let ram = open(filled).unwrap();
    let backend = &ram.backends()[0].opened;
    let scan = Pagemap::open().and_then(|pagemap| pagemap.scan(&backend.mapping, |_| ()));
    if scan.is_err() {
        eprintln!("NOT CHECKED: this kernel cannot scan page tables (Linux 6.7 can)");
        return;
    }
    let (mut sample, mut files) = (0.0, 0.0);
    for _ in 0..20 {
        let start = spent();
        assert_eq!(ram.residency().unwrap()[0].resident, ByteSize::mib(256));
        let middle = spent();
        let smaps = proc::smaps(&backend.mapping).unwrap();
        let numa = proc::numa_maps(&backend.mapping).unwrap();
        files += spent() - middle;
        sample += middle - start;
        assert_eq!(smaps.size("Rss"), ByteSize::mib(256));
        drop(numa);
    }
    println!("20 samples of 256 MiB: {sample:.1} ms; smaps and numa_maps: {files:.1} ms");
    assert!(sample < 0.7 * files, "{sample} of {files} ms");
}

/// Of a file in memory it is known what it holds, and a walk is only needed where little of it is mapped.
#[test]
fn much_memory_of_a_file_is_told_without_a_walk() {
    let mut filled = spec(MEMFD, 256);
    (filled.thp, filled.prealloc) = (Thp::Off, Prealloc::On);
    let ram = open(filled).unwrap();
    let cost = |count: u32| {
        let start = spent();
        for _ in 0..count {
            let found = ram.residency().unwrap().swap_remove(0);
            assert_eq!(found.resident, ByteSize::mib(256));
            let sum: u64 = found.nodes.iter().map(|node| node.bytes.bytes()).sum();
            assert!(
                sum.abs_diff(256 * MIB) <= 4096 * found.nodes.len() as u64,
                "{found:?}"
            );
            assert!(!found.nodes_exact && found.transparent_huge == ByteSize::ZERO);
        }
        (spent() - start) / f64::from(count)
    };
    println!("{:.2} ms a sample of 256 MiB", cost(20));
    // Three quarters go, and so few places are found that all are looked at.
    let mapping = &ram.backends()[0].opened.mapping;
    let most = crate::mapping::Span {
        offset: 0,
        len: 192 * MIB,
    };
    mapping.advise(most, Advice::DontNeed).unwrap();
    let found = ram.residency().unwrap().swap_remove(0);
    assert_eq!(found.resident, ByteSize::mib(256), "the file still has it");
    let sum: u64 = found.nodes.iter().map(|node| node.bytes.bytes()).sum();
    assert!(sum <= 64 * MIB && sum > 60 * MIB, "{found:?}");
}
