use super::*;
use std::num::NonZeroUsize;

use crate::size::PageSize;
use crate::testing::{HUGE_MEMFD, MEMFD, spec};

fn message(change: impl FnOnce(&mut BackendSpec), kind: BackendKind) -> String {
    let mut spec = spec(kind, 64);
    change(&mut spec);
    spec.check().unwrap_err().to_string()
}

#[test]
fn refuses_sizes() {
    assert_eq!(
        message(|spec| spec.size = ByteSize::ZERO, BackendKind::Ram),
        "backend 'mem0' has size 0"
    );
    assert_eq!(
        message(|spec| spec.size = ByteSize::mib(65), HUGE_MEMFD),
        "backend 'mem0' has 65 MiB, which is not a multiple of its page size, 2 MiB"
    );
    let odd = message(|spec| spec.size = ByteSize::from_bytes(4097), BackendKind::Ram);
    assert!(odd.contains("4097 bytes") && odd.contains("4 KiB"), "{odd}");
    let small = BackendKind::memfd(Some(PageSize::BASE));
    assert!(message(|_| (), small).contains("use 2M or 1G"));
}

#[test]
fn refuses_merging_of_what_cannot_merge() {
    for kind in [MEMFD, HUGE_MEMFD] {
        let text = message(|spec| spec.merge = MergeRequest::On, kind.clone());
        assert!(text.contains("merge=on") && text.contains("merge=off"), "{text}");
        let mut default = spec(kind, 64);
        default.merge = MergeRequest::Default(true);
        assert_eq!(default.check(), Ok(()), "a default is no error");
    }
    let text = message(
        |spec| (spec.merge, spec.share) = (MergeRequest::On, Some(true)),
        BackendKind::Ram,
    );
    assert!(text.contains("shared memory"), "{text}");
}

#[test]
fn refuses_contradictions() {
    let text = message(
        |spec| (spec.prealloc, spec.reserve) = (Prealloc::On, Some(false)),
        BackendKind::Ram,
    );
    assert!(text.contains("prealloc=on with reserve=off"), "{text}");
    let text = message(|spec| spec.share = Some(false), MEMFD);
    assert!(text.contains("every page twice"), "{text}");
    let text = message(|spec| spec.reserve = Some(true), MEMFD);
    assert!(text.contains("use prealloc=on"), "{text}");
    let text = message(|spec| spec.policy = HostPolicy::bind(NodeSet::default()), MEMFD);
    assert!(text.contains("policy=bind without host-nodes"), "{text}");
    let two = NodeSet::from_iter([0, 1]);
    let text = message(
        |spec| spec.policy = HostPolicy::Nodes(Placing::Preferred, two),
        MEMFD,
    );
    assert!(text.contains("preferred-many"), "{text}");
    let text = message(|spec| spec.prealloc_threads = NonZeroUsize::new(2), MEMFD);
    assert!(text.contains("without prealloc=on"), "{text}");
    let text = message(|spec| spec.lock = Lock::On, MEMFD);
    assert!(text.contains("lock=on-fault"), "{text}");
}

#[test]
fn refuses_files_that_cannot_be_ram() {
    let file = |change: fn(&mut FileSpec)| {
        let mut file = FileSpec::new("/x");
        change(&mut file);
        BackendKind::File(file)
    };
    for align in [0, 3 << 20, 2048] {
        let mut kind = FileSpec::new("/x");
        kind.align = Some(ByteSize::from_bytes(align));
        let text = message(|_| (), BackendKind::File(kind));
        assert!(
            text.contains(&format!("align={align}: use a power of two")),
            "{text}"
        );
    }
    let text = message(|spec| spec.share = Some(true), file(|file| file.read_only = true));
    assert!(text.contains("readonly=on with share=on"), "{text}");
}

/// What each kind of memory refuses once it is known.
#[test]
fn refuses_what_an_opened_backend_cannot() {
    let disk = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    let on_disk = || BackendKind::file(disk.path());
    let refusal = |kind: BackendKind, change: fn(&mut BackendSpec)| {
        let mut spec = spec(kind, 64);
        change(&mut spec);
        spec.check().unwrap();
        let backend = open(&spec).unwrap();
        spec.check_opened(backend.as_ref()).unwrap_err().to_string()
    };
    let merged = |spec: &mut BackendSpec| spec.merge = MergeRequest::On;
    let text = refusal(BackendKind::file("/dev/shm"), merged);
    assert!(text.contains("this is tmpfs file in /dev/shm"), "{text}");
    let text = refusal(HUGE_MEMFD, |spec| spec.thp = Thp::On);
    assert!(text.contains("huge pages of its own"), "{text}");
    let text = refusal(on_disk(), |spec| {
        spec.policy = HostPolicy::bind(NodeSet::from_iter([0]));
    });
    assert!(
        text.contains("places the pages of private memory of file"),
        "{text}"
    );
}

#[test]
fn accepts_what_works() {
    let mut private_huge = spec(HUGE_MEMFD, 64);
    private_huge.share = Some(false);
    let mut reserved = spec(MEMFD, 64);
    (reserved.reserve, reserved.prealloc) = (Some(true), Prealloc::On);
    let mut merged = spec(BackendKind::Ram, 64);
    merged.merge = MergeRequest::On;
    for spec in [private_huge, reserved, merged] {
        assert_eq!(spec.check(), Ok(()));
    }
}
