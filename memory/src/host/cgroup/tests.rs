use super::*;

const GROUPS: &str = "12:cpu,cpuacct:/other\n0::/guests/one\n";
const BOTH_KINDS: [&str; 2] = [IN_USE, RESERVED];
const BOTH: &str = "12:cpu,memory:/guests/one\n0::/other\n";

/// A tree of groups with these files.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    root
}

#[test]
fn groups_are_named_from_the_inside_out() {
    let groups = |text| {
        let groups = Groups::find(Path::new("/r"), text, "memory");
        (groups.version, groups.paths)
    };
    let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
    assert_eq!(
        groups("1:name=systemd:/a\n0::/a/b\n"),
        (&V2, paths(&["/r/a/b", "/r/a", "/r"]))
    );
    assert_eq!(groups("0::/\n"), (&V2, paths(&["/r"])));
    assert_eq!(
        groups("4:cpu,memory:/a\n0::/b\n"),
        (&V1, paths(&["/r/memory/a", "/r/memory"]))
    );
    assert_eq!(groups("4:cpu:/a\n"), (&V2, paths(&[])));
}

#[test]
fn the_group_that_leaves_least_counts() {
    let root = tree(&[
        ("guests/hugetlb.2MB.max", "10485760\n"),
        ("guests/hugetlb.2MB.current", "8388608\n"),
        ("guests/hugetlb.2MB.rsvd.max", "max\n"),
        ("guests/hugetlb.2MB.rsvd.current", "0\n"),
        ("guests/one/hugetlb.2MB.max", "6291456\n"),
        ("guests/one/hugetlb.2MB.current", "2097152\n"),
        ("guests/one/hugetlb.2MB.rsvd.max", "max\n"),
        ("guests/one/hugetlb.2MB.rsvd.current", "2097152\n"),
    ]);
    let groups = Groups::find(root.path(), GROUPS, "memory");
    let found = tightest_pool(&groups, PageSize::HUGE_2M, &BOTH_KINDS).unwrap();
    assert_eq!((found.left(), found.max), (ByteSize::mib(2), ByteSize::mib(10)));
    let text = found.to_string();
    assert!(
        text.starts_with("2 MiB of 10 MiB left by ") && text.ends_with("guests/hugetlb.2MB.max"),
        "{text}"
    );
    assert_eq!(tightest_pool(&groups, PageSize::HUGE_1G, &BOTH_KINDS), None);
    assert_eq!(tightest_pool(&groups, PageSize::BASE, &BOTH_KINDS), None);
}

#[test]
fn a_limit_for_reservations_counts_too() {
    let root = tree(&[
        ("guests/one/hugetlb.1GB.rsvd.max", "1073741824\n"),
        ("guests/one/hugetlb.1GB.rsvd.current", "1073741824\n"),
    ]);
    let groups = Groups::find(root.path(), GROUPS, "memory");
    let found = tightest_pool(&groups, PageSize::HUGE_1G, &BOTH_KINDS).unwrap();
    assert_eq!(found.left(), ByteSize::ZERO);
    assert_eq!(tightest_pool(&groups, PageSize::HUGE_1G, &[IN_USE]), None);
}

#[test]
fn caches_are_not_in_the_way() {
    let root = tree(&[
        ("guests/memory.max", "10485760\n"),
        ("guests/memory.current", "9437184\n"),
        (
            "guests/memory.stat",
            "anon 1\ninactive_file 4194304\nactive_file 1048576\nfile 9\n",
        ),
        ("guests/one/memory.max", "max\n"),
        ("guests/one/memory.current", "1048576\n"),
    ]);
    let found = tightest_memory(&Groups::find(root.path(), GROUPS, "memory")).unwrap();
    assert_eq!((found.left(), found.max), (ByteSize::mib(6), ByteSize::mib(10)));
}

#[test]
fn without_limits_there_is_none() {
    let root = tree(&[("guests/one/cgroup.procs", "1\n")]);
    let groups = Groups::find(root.path(), GROUPS, "memory");
    assert_eq!(tightest_pool(&groups, PageSize::HUGE_2M, &BOTH_KINDS), None);
    assert_eq!(tightest_memory(&groups), None);
}

#[test]
fn the_first_version_has_other_names() {
    let none = "9223372036854771712\n";
    let root = tree(&[
        ("memory/guests/memory.limit_in_bytes", "10485760\n"),
        ("memory/guests/memory.usage_in_bytes", "9437184\n"),
        (
            "memory/guests/memory.stat",
            "active_file 7\ntotal_active_file 1048576\n",
        ),
        ("memory/guests/one/memory.limit_in_bytes", none),
        ("memory/guests/one/memory.usage_in_bytes", "0\n"),
    ]);
    let groups = Groups::find(root.path(), BOTH, "memory");
    let found = tightest_memory(&groups).unwrap();
    assert_eq!((found.left(), found.max), (ByteSize::mib(2), ByteSize::mib(10)));
    assert!(found.file.ends_with("guests/memory.limit_in_bytes"), "{found}");
    assert_eq!(tightest(&groups, &["memory.swap"]), None);
}

#[test]
fn a_limit_of_swap_is_found() {
    let root = tree(&[
        ("guests/memory.swap.max", "4194304\n"),
        ("guests/memory.swap.current", "1048576\n"),
    ]);
    let groups = Groups::find(root.path(), GROUPS, "memory");
    assert_eq!(
        tightest(&groups, &["memory.swap"]).unwrap().left(),
        ByteSize::mib(3)
    );
}
