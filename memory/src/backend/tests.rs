use super::*;
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
    let small = BackendKind::Memfd {
        hugetlb: Some(PageSize::BASE),
    };
    assert!(message(|_| (), small).contains("use 2M or 1G"));
}

#[test]
fn refuses_merging_of_what_cannot_merge() {
    let directory = BackendKind::File {
        path: "/dev/shm".into(),
    };
    for kind in [MEMFD, HUGE_MEMFD, directory] {
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
        |spec| (spec.prealloc, spec.reserve) = (true, Some(false)),
        BackendKind::Ram,
    );
    assert!(text.contains("prealloc=on with reserve=off"), "{text}");
    let text = message(|spec| spec.share = Some(false), MEMFD);
    assert!(text.contains("every page twice"), "{text}");
    let text = message(|spec| spec.reserve = Some(true), MEMFD);
    assert!(text.contains("use prealloc=on"), "{text}");
    let text = message(|spec| spec.policy = HostPolicy::Bind(NodeSet::default()), MEMFD);
    assert!(text.contains("without host-nodes"), "{text}");
}

#[test]
fn accepts_what_works() {
    let mut private_huge = spec(HUGE_MEMFD, 64);
    private_huge.share = Some(false);
    let mut reserved = spec(MEMFD, 64);
    (reserved.reserve, reserved.prealloc) = (Some(true), true);
    let mut merged = spec(BackendKind::Ram, 64);
    merged.merge = MergeRequest::On;
    for spec in [private_huge, reserved, merged] {
        assert_eq!(spec.check(), Ok(()));
    }
}
