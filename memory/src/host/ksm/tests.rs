use super::*;

#[test]
fn reads_the_figures_of_the_host() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(host_in(root.path()), None);
    for (name, text) in [
        ("run", "1\n"),
        ("pages_sharing", "42\n"),
        ("advisor_mode", "[none] scan-time\n"),
    ] {
        fs::write(root.path().join(name), text).unwrap();
    }
    let ksm = host_in(root.path()).unwrap();
    assert!(ksm.is_running());
    assert_eq!(ksm.figure("pages_sharing"), Some(42));
    assert_eq!(ksm.figure("advisor_mode"), None);
}

#[test]
fn reads_the_figures_of_a_process() {
    let root = tempfile::tempdir().unwrap();
    assert_eq!(own_in(root.path()), None);
    fs::write(root.path().join("ksm_merging_pages"), "7\n").unwrap();
    let stat = "ksm_rmap_items 9\nksm_zero_pages 2\nksm_merging_pages 7\nksm_process_profit -64\nksm_merge_any: no\n";
    fs::write(root.path().join("ksm_stat"), stat).unwrap();
    let expected = OwnKsm {
        merging_pages: 7,
        zero_pages: 2,
        rmap_items: 9,
        profit: -64,
    };
    assert_eq!(own_in(root.path()), Some(expected));
}

#[test]
fn the_kernel_here_says_something() {
    assert!(host().is_some());
    assert!(own().is_some());
}
