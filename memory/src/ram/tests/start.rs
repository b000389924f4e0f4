//! What takes effect at start, on this host.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use vm_memory::{Bytes, GuestAddress};

use crate::backend::{
    BackendKind, HostPolicy, MergeRequest, NodeSet, OpenObserver, OpenStage, Placing, Prealloc, Thp,
};
use crate::host::ksm;
use crate::ram::{Ram, RamError};
use crate::range::GuestRange;
use crate::size::{ByteSize, PageSize};
use crate::testing::{
    HUGE_MEMFD, HugePages, MEMFD, MIB, Mount, Settings, chain, directory, open, resident, spec,
};

#[test]
fn lazy_memory_is_not_there_and_preallocated_memory_is() {
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    for kind in [BackendKind::Ram, MEMFD, directory(shm.path())] {
        let lazy = open(spec(kind.clone(), 64)).unwrap();
        assert_eq!(resident(&lazy), 0, "{kind:?}");
        assert!(!lazy.backends()[0].effective().prealloc);
        assert!(
            !lazy.backends()[0].effective().reserve,
            "MAP_NORESERVE unless asked"
        );
        let mut filled = spec(kind.clone(), 64);
        filled.prealloc = Prealloc::On;
        let filled = open(filled).unwrap();
        assert_eq!(resident(&filled), 64 * MIB, "{kind:?}");
        let effective = filled.backends()[0].effective();
        assert!(effective.prealloc && effective.reserve, "{effective:?}");
        let nodes = &filled.residency().unwrap()[0].nodes;
        assert_eq!(nodes.iter().map(|node| node.bytes.bytes()).sum::<u64>(), 64 * MIB);
    }
}

#[test]
fn huge_pages_are_reserved_or_taken_and_given_back() {
    let _pool = HugePages::with_free(40);
    let mount = Mount::new("hugetlbfs", "pagesize=2M");
    for kind in [HUGE_MEMFD, directory(mount.path())] {
        let lazy = open(spec(kind.clone(), 64)).unwrap();
        assert_eq!(HugePages::free_and_reserved(), (40, 32), "{kind:?}");
        let effective = lazy.backends()[0].effective();
        assert!(
            effective.share && effective.reserve && !effective.prealloc,
            "{effective:?}"
        );
        assert_eq!(effective.page_size, PageSize::HUGE_2M);
        assert_eq!(lazy.backends()[0].shortage().unwrap().free, 8);
        drop(lazy);
        let mut filled = spec(kind.clone(), 64);
        filled.prealloc = Prealloc::On;
        let filled = open(filled).unwrap();
        assert_eq!(HugePages::free_and_reserved(), (8, 0), "{kind:?}");
        assert_eq!(resident(&filled), 64 * MIB);
        drop(filled);
        let mut unreserved = spec(kind.clone(), 64);
        unreserved.reserve = Some(false);
        let unreserved = open(unreserved).unwrap();
        assert_eq!(HugePages::free_and_reserved(), (40, 0), "{kind:?}");
        assert!(!unreserved.backends()[0].effective().reserve);
        assert!(unreserved.backends()[0].warnings()[0].contains("reserve=off"));
        drop(unreserved);
        assert_eq!(HugePages::free_and_reserved(), (40, 0));
        let left = std::fs::read_dir(mount.path()).unwrap().count();
        assert_eq!(left, 0, "no name in the directory");
    }
}

#[test]
fn only_who_can_be_refused_a_page_is_dry() {
    let _pool = HugePages::with_free(8);
    let mut filled = spec(HUGE_MEMFD, 16);
    filled.prealloc = Prealloc::On;
    let filled = open(filled).unwrap();
    assert_eq!(HugePages::free_and_reserved(), (0, 0));
    assert!(filled.backends()[0].lack().is_none(), "all its pages are its own");
    let released = filled.release(&[GuestRange::new(GuestAddress(0), 2 * MIB)]);
    assert_eq!(released.discarded, 2 * MIB);
    assert!(filled.backends()[0].lack().is_none(), "the page is in the pool");
    let mut other = spec(HUGE_MEMFD, 2);
    other.prealloc = Prealloc::On;
    let _other = open(other).unwrap();
    assert!(
        filled.backends()[0].lack().is_some(),
        "the page is somebody else's"
    );
}

#[test]
fn merging_takes_effect_on_private_memory_and_warns_elsewhere() {
    let mut merged = spec(BackendKind::Ram, 4);
    merged.merge = MergeRequest::On;
    let ram = open(merged).unwrap();
    assert!(ram.backends()[0].effective().merge);
    assert!(
        !open(spec(BackendKind::Ram, 4)).unwrap().backends()[0]
            .effective()
            .merge,
        "off by default"
    );
    let mut default = spec(MEMFD, 4);
    default.merge = MergeRequest::Default(true);
    let ram = open(default).unwrap();
    assert!(!ram.backends()[0].effective().merge);
    let [warning] = ram.backends()[0].warnings() else {
        panic!("{:?}", ram.backends()[0].warnings())
    };
    assert!(
        warning.contains("mem-merge=on") && warning.contains("memfd"),
        "{warning}"
    );
}

#[test]
fn only_mergeable_memory_is_merged() {
    let eager = [
        ("pages_to_scan", "100000"),
        ("sleep_millisecs", "10"),
        ("run", "1"),
    ];
    let _ksm = Settings::change("/sys/kernel/mm/ksm", &eager);
    let mut merged = spec(BackendKind::Ram, 16);
    merged.merge = MergeRequest::On;
    let mut private = spec(BackendKind::Ram, 16);
    private.id = "mem1".to_owned();
    let ram = Ram::open(vec![merged, private], &()).unwrap();
    assert_eq!(ram.backends()[0].warnings(), [] as [String; 0], "ksmd runs");
    for address in (0..32 * MIB).step_by(8) {
        ram.memory()
            .write_obj(0x5AA5_0FF0_u64, GuestAddress(address))
            .unwrap();
    }
    let end = Instant::now() + Duration::from_secs(60);
    while ram.residency().unwrap()[0].merged.bytes() < 8 * MIB {
        assert!(Instant::now() < end, "{:?}", ram.residency());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(ram.residency().unwrap()[1].merged, ByteSize::ZERO);
    assert!(ksm::own().unwrap().merging_pages >= 2048);
    // Merged pages leave like others.
    let released = ram.release(&[GuestRange::between(0, 16 * MIB)]);
    assert_eq!((released.discarded, resident(&ram)), (16 * MIB, 0));
}

#[test]
fn transparent_huge_pages_are_welcome() {
    let mut filled = spec(BackendKind::Ram, 64);
    filled.prealloc = Prealloc::On;
    let ram = open(filled).unwrap();
    let setting = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled").unwrap();
    let possible = !setting.contains("[never]");
    assert_eq!(ram.backends()[0].effective().thp, possible);
    assert_eq!(
        ram.residency().unwrap()[0].transparent_huge > ByteSize::ZERO,
        possible
    );
}

#[test]
fn what_was_asked_is_read_back() {
    let mut asked = spec(BackendKind::Ram, 4);
    (asked.reserve, asked.dump) = (Some(true), false);
    let ram = open(asked).unwrap();
    let effective = ram.backends()[0].effective();
    assert!(
        effective.reserve && !effective.dump && !effective.share,
        "{effective:?}"
    );
    let mut shared = spec(BackendKind::Ram, 4);
    shared.share = Some(true);
    let ram = open(shared).unwrap();
    assert!(ram.backends()[0].effective().share);
    assert!(
        ram.backends()[0]
            .summary()
            .starts_with("backend 'mem0': 4 MiB of memfd, pages of 4 KiB: share=on, ")
    );
}

#[test]
fn binding_puts_pages_where_it_says() {
    let _pool = HugePages::with_free(4);
    for kind in [BackendKind::Ram, MEMFD, HUGE_MEMFD] {
        let mut bound = spec(kind, 8);
        bound.policy = HostPolicy::bind(NodeSet::parse("0").unwrap());
        bound.prealloc = Prealloc::On;
        let ram = open(bound).unwrap();
        assert_eq!(ram.backends()[0].effective().policy, "bind 0");
        let [only] = ram.residency().unwrap()[0].nodes[..] else {
            panic!()
        };
        assert_eq!((only.node, only.bytes), (0, ByteSize::mib(8)));
    }
}

#[test]
fn every_policy_reaches_the_kernel() {
    let nodes = NodeSet::from_iter([0]);
    let named = Placing::ALL.map(|placing| HostPolicy::Nodes(placing, nodes.clone()));
    for policy in named.into_iter().chain([HostPolicy::Local, HostPolicy::Default]) {
        for kind in [BackendKind::Ram, MEMFD] {
            let mut placed = spec(kind, 8);
            (placed.policy, placed.prealloc, placed.strict) = (policy.clone(), Prealloc::On, true);
            let ram = match open(placed) {
                Ok(ram) => ram,
                // An older kernel.
                Err(error @ RamError::Policy { .. }) => {
                    let text = chain(&error);
                    assert!(text.contains("which needs Linux "), "{text}");
                    continue;
                }
                Err(error) => panic!("{policy}: {error}"),
            };
            let backend = &ram.backends()[0];
            assert_eq!(backend.effective().policy, policy.to_string());
            assert_eq!(ram.residency().unwrap()[0].misplaced, ByteSize::ZERO, "{policy}");
            assert_eq!(backend.warnings(), [""; 0]);
        }
    }
}

#[test]
fn transparent_huge_pages_come_as_asked() {
    let thp = "/sys/kernel/mm/transparent_hugepage";
    let _settings = Settings::change(thp, &[("enabled", "madvise"), ("shmem_enabled", "never")]);
    let open_with = |kind, thp| {
        let mut spec = spec(kind, 16);
        (spec.thp, spec.prealloc) = (thp, Prealloc::On);
        open(spec)
    };
    for (asked, effective) in [(Thp::Default, true), (Thp::On, true), (Thp::Off, false)] {
        let ram = open_with(BackendKind::Ram, asked).unwrap();
        assert_eq!(ram.backends()[0].effective().thp, effective, "{asked:?}");
        let huge = ram.residency().unwrap()[0].transparent_huge;
        assert_eq!(huge > ByteSize::ZERO, effective, "{asked:?}: {huge}");
        // A balloon that is empty again brings nothing that was not there before.
        let _ = ram.release(&[GuestRange::between(4096, 8192)]);
        ram.all_in_use();
        let flags = crate::proc::smaps(&ram.backends()[0].opened.mapping).unwrap();
        assert_eq!(flags.flag("hg"), effective, "{asked:?}");
    }
    let ram = open_with(MEMFD, Thp::Default).unwrap();
    assert!(!ram.backends()[0].effective().thp);
    let text = chain(&open_with(MEMFD, Thp::On).unwrap_err());
    assert!(
        text.starts_with("backend 'mem0' has thp=on, which did not take effect on memfd: in ")
            && text.contains("shmem_enabled is never"),
        "{text}"
    );
}

#[test]
fn stages_come_in_order() {
    #[derive(Default)]
    struct Ears(Mutex<Vec<OpenStage>>);
    impl OpenObserver for Ears {
        fn stage(&self, _backend: &str, stage: OpenStage) {
            self.0.lock().unwrap().push(stage);
        }
        fn prealloc(&self, _backend: &str, _done: ByteSize, _total: ByteSize) {}
    }
    use OpenStage::{Bound, Hinted, Mapped, PreallocHalf, Preallocated, Verified};
    let mut asked = spec(BackendKind::Ram, 64);
    asked.prealloc = Prealloc::On;
    let ears = Ears::default();
    Ram::open(vec![asked], &ears).unwrap();
    let stages = ears.0.into_inner().unwrap();
    assert_eq!(
        stages,
        [Mapped, Hinted, Bound, PreallocHalf, Preallocated, Verified]
    );
}

#[test]
fn a_process_that_is_killed_leaves_nothing() {
    let _pool = HugePages::with_free(16);
    let mount = Mount::new("hugetlbfs", "pagesize=2M");
    let shm = tempfile::tempdir_in("/dev/shm").unwrap();
    let marker = tempfile::NamedTempFile::new().unwrap();
    let program = std::env::current_exe().unwrap();
    let mut child = std::process::Command::new(program)
        .args(["--ignored", "--exact", "ram::tests::start::sleeps_with_memory_in"])
        .env(
            "BALLAST_TEST_DIRECTORIES",
            std::env::join_paths([mount.path(), shm.path()]).unwrap(),
        )
        .env("BALLAST_TEST_MARKER", marker.path())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    while marker.path().metadata().unwrap().len() == 0 {
        assert_eq!(child.try_wait().unwrap(), None, "the child ended early");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(HugePages::free_and_reserved(), (0, 0));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(HugePages::free_and_reserved(), (16, 0));
    for directory in [mount.path(), shm.path()] {
        assert_eq!(std::fs::read_dir(directory).unwrap().count(), 0);
    }
}

#[test]
#[ignore = "run by a_process_that_is_killed_leaves_nothing"]
fn sleeps_with_memory_in() {
    let Some(directories) = std::env::var_os("BALLAST_TEST_DIRECTORIES") else {
        return;
    };
    let specs = std::env::split_paths(&directories).map(|path| {
        let mut spec = spec(directory(&path), 32);
        spec.prealloc = Prealloc::On;
        spec
    });
    let _ram = Ram::open(specs.collect(), &()).unwrap();
    std::fs::write(std::env::var_os("BALLAST_TEST_MARKER").unwrap(), "ready").unwrap();
    std::thread::sleep(Duration::from_secs(60));
}
