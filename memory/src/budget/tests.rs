use super::*;
use crate::backend::{BackendKind, HostPolicy, Placing};
use crate::host::meminfo;
use crate::testing::{HUGE_MEMFD, HugePages, Mount, directory, spec};

const OWN: (&str, ByteSize) = ("Ballast itself", ByteSize::mib(5));

fn supply(source: Source, mib: u64) -> Supply {
    Supply {
        source,
        nodes: None,
        left: ByteSize::mib(mib),
        found: format!("there are {mib} MiB"),
        remedy: "do something".to_owned(),
    }
}

fn guest(kinds: &[(BackendKind, u64)]) -> Budget {
    let name = |(number, (kind, mib)): (usize, &(BackendKind, u64))| {
        let mut spec = spec(kind.clone(), *mib);
        spec.id = format!("m{number}");
        spec
    };
    let specs: Vec<_> = kinds.iter().enumerate().map(name).collect();
    Budget::new(&specs, [OWN])
}

#[test]
fn the_sum_is_named_with_its_parts() {
    let budget = guest(&[(BackendKind::Ram, 1024), (HUGE_MEMFD, 512)]);
    // Two tables of 8 bytes a page of 1 GiB.
    let sum = 1024 + 4 + 1 + 5;
    assert_eq!(budget.compare([supply(Source::Memory, sum)]), Ok(()));
    let error = budget
        .compare([supply(Source::Memory, 1033), supply(Source::Memory, 2048)])
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "the guest can need 1034 MiB of memory (backend 'm0' 1 GiB, page tables 5 MiB, Ballast itself 5 MiB), \
         but there are 1033 MiB: do something"
    );
    let pool = Source::Pool(PageSize::HUGE_2M);
    assert_eq!(budget.compare([supply(pool, 512)]), Ok(()));
    let error = budget
        .compare([supply(pool, 510), supply(Source::Memory, 0)])
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.starts_with("the guest can need 512 MiB in pages of 2 MiB (backend 'm1' 512 MiB), but")
            && text.contains("; the guest can"),
        "{text}"
    );
}

#[test]
fn files_count_where_their_pages_come_from() {
    let tmpfs = Mount::new("tmpfs", "size=4M");
    let disk = tempfile::tempdir().unwrap();
    let missing = |directory: &std::path::Path| BackendKind::file(directory.join("ram"));
    let _pool = HugePages::with_free(2);
    let huge = Mount::new("hugetlbfs", "pagesize=2M");
    for (kind, share, expected) in [
        (directory(tmpfs.path()), None, Source::Memory),
        (missing(tmpfs.path()), Some(true), Source::Memory),
        (directory(huge.path()), None, Source::Pool(PageSize::HUGE_2M)),
        (missing(huge.path()), Some(true), Source::Pool(PageSize::HUGE_2M)),
        (missing(disk.path()), Some(true), Source::Cache),
        (missing(disk.path()), None, Source::Memory),
    ] {
        let mut asked = spec(kind, 4);
        asked.share = share;
        assert_eq!(backend::source(&asked), expected, "{asked:?}");
    }
    assert!(!disk.path().join("ram").exists(), "nothing is made");
}

#[test]
fn this_host_has_little_beside_what_it_could_promise() {
    let small = guest(&[(BackendKind::Ram, 1)]);
    assert_eq!(small.check(), Ok(()));
    let text = guest(&[(BackendKind::Ram, 1 << 26)])
        .check()
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("64 TiB")
            && text.contains("are available on this host")
            && text.contains("page tables 256 GiB"),
        "{text}"
    );
}

#[test]
fn huge_pages_without_a_reservation_are_compared_with_the_pool() {
    let _pool = HugePages::with_free(2);
    let mut asked = spec(HUGE_MEMFD, 8);
    assert_eq!(Budget::new([&asked], []).check(), Ok(()), "the mapping checks it");
    asked.reserve = Some(false);
    let text = Budget::new([&asked], []).check().unwrap_err().to_string();
    assert!(
        text.contains("8 MiB in pages of 2 MiB") && text.contains("2 free"),
        "{text}"
    );
}

fn bound(id: &str, mib: u64, nodes: &str) -> BackendSpec {
    let mut spec = spec(BackendKind::Ram, mib);
    spec.id = id.to_owned();
    spec.policy = HostPolicy::Nodes(Placing::Bind, nodes.parse().unwrap());
    spec
}

#[test]
fn a_node_gives_what_nothing_else_may() {
    let mut anywhere = spec(BackendKind::Ram, 4096);
    let specs = [bound("a", 600, "1"), bound("b", 500, "0-1"), bound("c", 100, "0")];
    anywhere.policy = HostPolicy::Nodes(Placing::Preferred, "1".parse().unwrap());
    let budget = Budget::new(specs.iter().chain([&anywhere]), []);
    let on = |nodes: &str, mib| Supply {
        nodes: Some(nodes.parse().unwrap()),
        ..supply(Source::Memory, mib)
    };
    assert_eq!(
        budget.compare([on("0", 100), on("1", 600), on("0-1", 1200)]),
        Ok(())
    );
    let lacking = |supply| budget.compare([supply]).unwrap_err().to_string();
    let text = lacking(on("1", 599));
    assert_eq!(
        text,
        "the guest can need 600 MiB of memory on node 1 (backend 'a' 600 MiB), but there are 599 MiB: do something"
    );
    let text = lacking(on("0-1", 1199));
    assert!(
        text.contains("backend 'a' 600 MiB, backend 'b' 500 MiB, backend 'c' 100 MiB)"),
        "{text}"
    );
}

#[test]
fn a_node_of_this_host_is_asked() {
    for nodes in ["0", "1023"] {
        assert_eq!(
            Budget::new([&bound("a", 1, nodes)], []).check(),
            Ok(()),
            "{nodes}"
        );
    }
    let total = meminfo::node(0).size("MemTotal").unwrap();
    let text = Budget::new([&bound("a", (total.bytes() >> 20) + (1 << 26), "0")], []);
    let text = text.check().unwrap_err().to_string();
    let expected = format!("of {} are available there", ByteSize::mib(total.bytes() >> 20));
    assert!(
        text.contains(" of memory on node 0 (backend 'a'") && text.contains(&expected),
        "{text}"
    );
}
