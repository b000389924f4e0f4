use super::*;

const GROUPS: &str = "12:memory:/other\n0::/guests/one\n";

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
    let groups = |text| groups_in(Path::new("/r"), text);
    assert_eq!(
        groups("1:name=systemd:/a\n0::/a/b\n"),
        ["/r/a/b", "/r/a", "/r"].map(PathBuf::from)
    );
    assert_eq!(groups("0::/\n"), [PathBuf::from("/r")]);
    assert_eq!(groups("4:memory:/a\n"), Vec::<PathBuf>::new());
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
    let groups = groups_in(root.path(), GROUPS);
    let found = tightest_pool(&groups, PageSize::HUGE_2M).unwrap();
    assert_eq!((found.left(), found.max), (ByteSize::mib(2), ByteSize::mib(10)));
    let text = found.to_string();
    assert!(
        text.starts_with("2 MiB of 10 MiB left by ") && text.ends_with("guests/hugetlb.2MB.max"),
        "{text}"
    );
    assert_eq!(tightest_pool(&groups, PageSize::HUGE_1G), None);
    assert_eq!(tightest_pool(&groups, PageSize::BASE), None);
}

#[test]
fn a_limit_for_reservations_counts_too() {
    let root = tree(&[
        ("guests/one/hugetlb.1GB.rsvd.max", "1073741824\n"),
        ("guests/one/hugetlb.1GB.rsvd.current", "1073741824\n"),
    ]);
    let found = tightest_pool(&groups_in(root.path(), GROUPS), PageSize::HUGE_1G).unwrap();
    assert_eq!(found.left(), ByteSize::ZERO);
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
    let found = tightest_memory(&groups_in(root.path(), GROUPS)).unwrap();
    assert_eq!((found.left(), found.max), (ByteSize::mib(6), ByteSize::mib(10)));
}

#[test]
fn without_limits_there_is_none() {
    let root = tree(&[("guests/one/cgroup.procs", "1\n")]);
    let groups = groups_in(root.path(), GROUPS);
    assert_eq!(tightest_pool(&groups, PageSize::HUGE_2M), None);
    assert_eq!(tightest_memory(&groups), None);
    assert_eq!(tightest_pool(&[], PageSize::HUGE_2M), None);
}
