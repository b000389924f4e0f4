//! What is refused, with which words, and that nothing is left.

use crate::backend::{BackendKind, HostPolicy, NodeSet, Prealloc};
use crate::ram::Ram;
use crate::size::ByteSize;
use crate::testing::{HUGE_MEMFD, HugePages, MEMFD, Mount, chain, directory, open, spec};

fn refusal(spec: crate::BackendSpec) -> String {
    chain(&open(spec).unwrap_err())
}

#[test]
fn a_node_that_does_not_exist() {
    let mut bound = spec(BackendKind::Ram, 4);
    bound.policy = HostPolicy::bind(NodeSet::parse("0,77").unwrap());
    let text = refusal(bound);
    assert!(
        text.starts_with("backend 'mem0' asks for host node 77, which has no memory: this host has 0"),
        "{text}"
    );
}

#[test]
fn too_few_huge_pages() {
    let _pool = HugePages::with_free(16);
    let reserving = open(spec(HUGE_MEMFD, 8)).unwrap();
    let text = refusal(spec(HUGE_MEMFD, 128));
    let expected = "backend 'mem0' needs 64 pages of 2 MiB: 12 free (16 in the pool, 4 reserved); ";
    assert!(text.starts_with(expected), "{text}");
    let mut bound = spec(HUGE_MEMFD, 128);
    bound.policy = HostPolicy::bind(NodeSet::parse("0").unwrap());
    let text = refusal(bound);
    let expected = "backend 'mem0' needs 64 pages of 2 MiB on node 0: 12 free (16 in the pool, 4 reserved); ";
    assert!(text.starts_with(expected), "{text}");
    drop(reserving);
    let mut second = spec(HUGE_MEMFD, 20);
    second.id = "mem1".to_owned();
    let text = chain(&Ram::open(vec![spec(HUGE_MEMFD, 20), second], &()).unwrap_err());
    assert!(
        text.contains("'mem1' needs 10 pages") && text.contains("other backends of this guest need 10"),
        "{text}"
    );
    assert_eq!(HugePages::free_and_reserved(), (16, 0), "nothing left behind");
}

#[test]
fn a_size_that_is_no_multiple_of_a_directorys_pages() {
    let _pool = HugePages::with_free(4);
    let mount = Mount::new("hugetlbfs", "pagesize=2M");
    let text = refusal(spec(directory(mount.path()), 5));
    assert_eq!(
        text,
        "backend 'mem0' has 5 MiB, which is not a multiple of its page size, 2 MiB"
    );
}

#[test]
fn a_mount_with_a_limit() {
    let _pool = HugePages::with_free(8);
    let mount = Mount::new("hugetlbfs", "pagesize=2M,size=4M");
    let text = refusal(spec(directory(mount.path()), 8));
    assert!(
        text.contains("needs 8 MiB") && text.contains("room for 4 MiB"),
        "{text}"
    );
    let tmpfs = Mount::new("tmpfs", "size=4M");
    let mut filled = spec(directory(tmpfs.path()), 8);
    let lazy = open(filled.clone()).unwrap();
    assert!(lazy.backends()[0].warnings()[0].contains("room for 4 MiB"));
    drop(lazy);
    filled.prealloc = Prealloc::On;
    let text = refusal(filled);
    assert!(
        text.contains("tmpfs file in") && text.contains("room for 4 MiB"),
        "{text}"
    );
}

#[test]
fn no_directory_of_memory() {
    let text = refusal(spec(directory(std::path::Path::new("/proc")), 4));
    assert!(
        text.starts_with(
            "cannot open backend 'mem0': mem-path '/proc' is a directory on a file system of type"
        ),
        "{text}"
    );
}

#[test]
fn more_than_the_host_accounts_for() {
    let mut reserved = spec(BackendKind::Ram, 64 << 20);
    assert_eq!(reserved.size, ByteSize::gib(64 << 10));
    assert!(
        open(reserved.clone()).is_ok(),
        "64 TiB of lazy memory cost nothing"
    );
    reserved.reserve = Some(true);
    let text = refusal(reserved);
    assert!(
        text.contains("cannot map 64 TiB of anonymous memory for backend 'mem0'"),
        "{text}"
    );
    assert!(text.contains("reserve=off"), "{text}");
}

#[test]
fn backends_that_do_not_fit_together() {
    let _pool = HugePages::with_free(4);
    let text = chain(&Ram::open(vec![spec(MEMFD, 3), spec(HUGE_MEMFD, 4)], &()).unwrap_err());
    assert!(text.contains("0x300000"), "{text}");
    assert!(chain(&Ram::open(vec![], &()).unwrap_err()).contains("at least one"));
}
