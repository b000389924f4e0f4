use proptest::prelude::*;

use super::*;

#[test]
fn reads_and_writes_lists() {
    for (text, shown) in [
        ("0", "0"),
        ("0-1,3", "0-1,3"),
        ("3,1,0", "0-1,3"),
        ("0-0", "0"),
        ("5-7,6", "5-7"),
        ("1023", "1023"),
    ] {
        assert_eq!(NodeSet::parse(text).unwrap().to_string(), shown);
    }
    for text in [
        "",
        ",",
        "0,",
        "-1",
        "1-",
        "1-0",
        "a",
        "0-1024",
        "1024",
        " 0 1",
        "0x1",
        "+1",
        "4294967296",
    ] {
        let error = NodeSet::parse(text).unwrap_err();
        assert!(error.to_string().contains("0-1,3"), "{error}");
    }
}

#[test]
fn the_mask_has_one_bit_a_node() {
    let mask = |text| NodeSet::parse(text).unwrap().mask();
    assert_eq!(mask("0"), [1]);
    assert_eq!(mask("0-1,3"), [0b1011]);
    assert_eq!(mask("63"), [1 << 63]);
    assert_eq!(mask("1,64"), [2, 1]);
    assert_eq!(mask("1023").len(), 16);
}

#[test]
fn finds_nodes_and_their_cpus() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path();
    assert_eq!(nodes_in(path), NodeSet::from_iter([0]), "a kernel without NUMA");
    for (node, cpus) in [(0, "0,2\n"), (1, "\n"), (3, "4-5\n")] {
        fs::create_dir(path.join(format!("node{node}"))).unwrap();
        fs::write(path.join(format!("node{node}/cpulist")), cpus).unwrap();
    }
    fs::write(path.join("has_memory"), "0-1,3\n").unwrap();
    assert_eq!(nodes_in(path), NodeSet::parse("0-1,3").unwrap());
    let cpus = |text| {
        let set = cpus_in(path, &NodeSet::parse(text).unwrap());
        (0..64).filter(|cpu| set.is_set(*cpu)).collect::<Vec<_>>()
    };
    assert_eq!(cpus("0"), [0, 2]);
    assert_eq!(cpus("1"), [0_usize; 0]);
    assert_eq!(cpus("0,3"), [0, 2, 4, 5]);
}

#[test]
fn a_cpuset_confines_to_nodes() {
    let nodes = NodeSet::from_iter([0, 1]);
    let status = |list: &str| format!("Name:\tx\nMems_allowed:\t1\nMems_allowed_list:\t{list}\n");
    assert_eq!(confined_in(&status("0"), &nodes), Some(NodeSet::from_iter([0])));
    for all in ["0-1", "0-3", "", "x"] {
        assert_eq!(confined_in(&status(all), &nodes), None, "{all}");
    }
    assert_eq!(confined_in("", &nodes), None);
}

#[test]
fn this_host_has_a_node_that_is_near_itself() {
    let node = nodes().iter().next().unwrap();
    assert!(distances(node).contains(&10));
}

proptest! {
    #[test]
    fn what_is_written_is_read(nodes in prop::collection::btree_set(0_u32..1024, 1..20)) {
        let set = NodeSet::from_iter(nodes);
        prop_assert_eq!(NodeSet::parse(&set.to_string()), Ok(set));
    }
}
