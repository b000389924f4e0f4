use super::*;

#[test]
fn lists_are_read_and_written() {
    let list: CpuList = "0-2,5".parse().unwrap();
    assert_eq!(list.iter().collect::<Vec<_>>(), [0, 1, 2, 5]);
    assert_eq!(list.to_string(), "0-2,5");
    assert_eq!(CpuList::from(list.to_set()), list);
    assert_eq!(list.difference(&"1-3".parse().unwrap()).to_string(), "0,5");
    assert_eq!("1023".parse::<CpuList>().unwrap().to_string(), "1023");
    for wrong in ["", "1-", "2-1", "x", "1024", "+1", "0 1"] {
        let text = wrong.parse::<CpuList>().unwrap_err().to_string();
        assert!(
            text.contains("is not a list of CPUs: write numbers from 0 to 1023"),
            "{text}"
        );
    }
}

#[test]
fn says_why_a_cpu_cannot_be_used() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("present"), "0-5\n").unwrap();
    fs::write(root.path().join("online"), "0-2,4-5\n").unwrap();
    let group = || Some(("/g/cpuset.cpus.effective".into(), "1-4\n".to_owned()));
    let why = |cpu| obstacle_in(root.path(), group(), cpu);
    assert_eq!(
        why(6).as_deref(),
        Some("this machine has only CPUs 0-5; choose among them")
    );
    let switch = root.path().join("cpu3/online");
    let text = format!(
        "it is offline; choose among 0-2,4-5, or write 1 to {}",
        switch.display()
    );
    assert_eq!(why(3), Some(text));
    let text = "the cpuset of the control group has only CPUs 1-4 (/g/cpuset.cpus.effective); \
                choose among them, or give the group more";
    assert_eq!(why(5).as_deref(), Some(text));
    assert_eq!(why(4), None);
    assert_eq!(obstacle_in(root.path(), None, 5), None);
    assert_eq!(obstacle_in(&root.path().join("none"), None, 5), None);
}
