use super::*;

fn text(value: &str) -> String {
    numa(value).unwrap_err().to_string()
}

fn node_of(value: &str) -> NumaNodeArg {
    let NumaArg::Node(node) = numa(value).unwrap() else {
        panic!("{value}")
    };
    node
}

#[test]
fn reads_nodes() {
    assert_eq!(node_of("node"), NumaNodeArg::default());
    let node = node_of("node,nodeid=1,cpus=0-2,cpus=5,memdev=m");
    assert_eq!((node.id, node.memdev.as_deref()), (Some(1), Some("m")));
    assert_eq!(node.cpus, BTreeSet::from([0, 1, 2, 5]));
    assert_eq!(node_of("node,cpus=7,,0-1").cpus, BTreeSet::from([0, 1, 7]));
    let pinned = node_of("node,host-cpus=2,,4-5").host_cpus;
    assert_eq!(pinned.map(|cpus| cpus.to_string()).as_deref(), Some("2,4-5"));
    assert_eq!(
        text("node,host-cpus=2-"),
        "host-cpus=2-: expected CPUs of the host such as 0-1 or 0,,2"
    );
    for cpus in ["", "1-", "2-1", "x", "256", "+1"] {
        let text = text(&format!("node,cpus={cpus}"));
        assert!(
            text.ends_with("expected a vCPU such as 0, or a range such as 0-3"),
            "{text}"
        );
    }
    assert_eq!(
        text("node,nodeid=128"),
        "nodeid=128: expected a node from 0 to 127"
    );
    assert!(text("node,mem=1G").contains("no property 'mem'"));
    assert_eq!(text("memdev=m"), "-numa needs 'type=…'");
    assert_eq!(
        text("hmat-lb,x=1"),
        "'hmat-lb' is not accepted here; accepted: node, dist, cpu"
    );
}

#[test]
fn reads_distances() {
    let expected = NumaArg::Distance {
        from: 0,
        to: 1,
        distance: 21,
    };
    assert_eq!(numa("dist,src=0,dst=1,val=21").unwrap(), expected);
    assert_eq!(text("dist,src=0,val=21"), "dist needs 'dst=…'");
    for val in ["9", "256", "-20"] {
        assert!(text(&format!("dist,src=0,dst=1,val={val}")).contains("from 10 (local)"));
    }
}

#[test]
fn reads_places_of_vcpus() {
    let expected = NumaArg::Cpu {
        node: 1,
        socket: Some(0),
        core: Some(2),
        thread: None,
    };
    assert_eq!(numa("cpu,node-id=1,socket-id=0,core-id=2").unwrap(), expected);
    assert_eq!(text("cpu,socket-id=0"), "cpu needs 'node-id=…'");
    assert!(text("cpu,node-id=0").contains("to say which vCPUs"));
    assert!(text("cpu,node-id=0,core-id=x").contains("expected a number"));
}
