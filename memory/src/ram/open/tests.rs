use super::*;
use crate::backend::{HostPolicy, NodeSet};
use crate::ram::Population;
use crate::testing::{HUGE_MEMFD, HugePages, Mount, chain, directory, spec};

/// Preallocates what nobody reserved, which a user cannot ask for: as when pages disappear after the check.
fn preallocation_without_reservation(mut spec: BackendSpec) -> RamError {
    spec.reserve = Some(false);
    let opening = prepare(&spec, open_source(&spec).unwrap(), 0, &()).unwrap();
    let backend = verify(opening, &()).unwrap();
    spec.prealloc = Prealloc::On;
    backend.opened.set_spec(spec);
    Population::new([&backend], None).run(&()).unwrap_err()
}

#[test]
fn an_empty_pool_is_said_as_a_shortage() {
    let _pool = HugePages::with_free(4);
    let text = preallocation_without_reservation(spec(HUGE_MEMFD, 16)).to_string();
    let expected = "backend 'mem0' needs 8 pages of 2 MiB: 0 free (4 in the pool, 0 reserved, 4 in use); ";
    assert!(text.starts_with(expected), "{text}");
    let mut bound = spec(HUGE_MEMFD, 16);
    bound.policy = HostPolicy::bind(NodeSet::from_iter([0]));
    let text = preallocation_without_reservation(bound).to_string();
    assert!(
        text.starts_with("backend 'mem0' needs 8 pages of 2 MiB on node 0: 0 free "),
        "{text}"
    );
    assert_eq!(HugePages::free_and_reserved(), (4, 0), "all given back");
}

#[test]
fn a_full_file_system_is_said() {
    let tmpfs = Mount::new("tmpfs", "size=4M");
    let text = chain(&preallocation_without_reservation(spec(
        directory(tmpfs.path()),
        8,
    )));
    assert!(
        text.contains("cannot preallocate 8 MiB for backend 'mem0'"),
        "{text}"
    );
    assert!(
        text.contains("tmpfs file in") && text.contains("has room for"),
        "{text}"
    );
}
