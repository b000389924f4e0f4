use proptest::prelude::*;

use super::*;
use crate::cli::numa_options::numa;

fn args(words: &[&str]) -> Vec<NumaArg> {
    words.iter().map(|word| numa(word).unwrap()).collect()
}

fn plan_of(vcpus: u8, words: &[&str]) -> Result<NumaPlan, NumaError> {
    plan(&args(words), Topology::one_socket(vcpus).unwrap())
}

fn text(vcpus: u8, words: &[&str]) -> String {
    plan_of(vcpus, words).unwrap_err().to_string()
}

fn vcpus(plan: &NumaPlan) -> Vec<Vec<u8>> {
    (plan.nodes.iter())
        .map(|node| node.vcpus.iter().copied().collect())
        .collect()
}

#[test]
fn one_node_has_all_without_saying() {
    assert_eq!(plan_of(4, &[]).unwrap().nodes, []);
    let plan = plan_of(4, &["node,memdev=m"]).unwrap();
    assert_eq!(vcpus(&plan), [[0, 1, 2, 3]]);
    assert_eq!(plan.distances, [[10]]);
}

#[test]
fn nodes_have_vcpus_memory_or_both() {
    let plan = plan_of(
        3,
        &[
            "node,nodeid=2,memdev=c",
            "node,nodeid=0,cpus=0,cpus=2,memdev=a",
            "node,nodeid=1,cpus=1",
        ],
    )
    .unwrap();
    assert_eq!(vcpus(&plan), [vec![0, 2], vec![1], vec![]]);
    let memory: Vec<_> = plan.nodes.iter().map(|node| node.memdev.as_deref()).collect();
    assert_eq!(memory, [Some("a"), None, Some("c")]);
    assert_eq!(plan.distances, [[10, 20, 20], [20, 10, 20], [20, 20, 10]]);
}

#[test]
fn places_name_vcpus() {
    let words = [
        "node",
        "node",
        "cpu,node-id=0,socket-id=0",
        "cpu,node-id=1,socket-id=1",
    ];
    let plan = plan(&args(&words), Topology::new(2, 2, 1).unwrap()).unwrap();
    assert_eq!(vcpus(&plan), [[0, 1], [2, 3]]);
    let words = [
        "node",
        "node",
        "cpu,node-id=1,core-id=0",
        "cpu,node-id=0,core-id=1,thread-id=0",
    ];
    let plan = super::plan(&args(&words), Topology::new(2, 2, 1).unwrap()).unwrap();
    assert_eq!(vcpus(&plan), [[1, 3], [0, 2]]);
    assert!(text(1, &["node", "cpu,node-id=0,socket-id=1"]).contains("1 vCPUs in 1 sockets"));
    assert_eq!(
        text(1, &["node", "cpu,node-id=1,socket-id=0"]),
        "-numa cpu,node-id=1: there is no node 1; -numa node defines one"
    );
}

/// As QEMU wants it: also CPUs that are not there yet have a node. Only vCPUs are pinned.
#[test]
fn places_without_a_vcpu_have_nodes_too() {
    let topology = Topology::new(2, 1, 2).unwrap().with_vcpus(2).unwrap();
    let words = ["node,cpus=0-1,memdev=a", "node,cpus=2-3,memdev=b"];
    let plan = super::plan(&args(&words), topology).unwrap();
    assert_eq!(vcpus(&plan), [[0, 1], [2, 3]]);
    let words = [
        "node,host-cpus=0",
        "node,memdev=b",
        "cpu,node-id=0,thread-id=1",
        "cpu,node-id=0,thread-id=0",
    ];
    let plan = super::plan(&args(&words), topology).unwrap();
    assert_eq!(vcpus(&plan), [vec![0, 1, 2, 3], vec![]]);
    assert!(plan.host_cpus(topology).into_keys().eq(0..2));
    let error = |words: &[&str]| super::plan(&args(words), topology).unwrap_err();
    assert_eq!(
        error(&["node,cpus=0-1", "node,memdev=b"]),
        NumaError::VcpusWithoutNode {
            vcpus: "2, 3".to_owned()
        }
    );
    assert_eq!(
        error(&["node,cpus=0-1", "node,cpus=2-3,host-cpus=0"]),
        NumaError::NothingToPin { node: 1 }
    );
    assert_eq!(
        error(&["node,cpus=0-4"]),
        NumaError::UnknownVcpu {
            node: 0,
            vcpu: 4,
            topology
        }
    );
}

#[test]
fn distances_hold_both_ways() {
    let nodes = ["node,cpus=0", "node,cpus=1"];
    let with = |more: &[&str]| plan_of(2, &[&nodes[..], more].concat());
    let one_way = with(&["dist,src=0,dst=1,val=21"]).unwrap();
    assert_eq!(one_way.distances, [[10, 21], [21, 10]]);
    let both = with(&[
        "dist,src=0,dst=1,val=21",
        "dist,src=1,dst=0,val=31",
        "dist,src=0,dst=0,val=10",
    ]);
    assert_eq!(both.unwrap().distances, [[10, 21], [31, 10]]);
    let error = |more: &[&str]| with(more).unwrap_err().to_string();
    assert!(error(&["dist,src=0,dst=2,val=21"]).contains("there is no node 2"));
    assert!(error(&["dist,src=1,dst=1,val=11"]).contains("at distance 10 from itself"));
    assert_eq!(
        error(&["dist,src=0,dst=1,val=21", "dist,src=0,dst=1,val=22"]),
        "the distance from node 0 to node 1 was given as 21 and as 22"
    );
    let three = [
        "node,cpus=0",
        "node,cpus=1",
        "node,memdev=m",
        "dist,src=0,dst=1,val=21",
    ];
    assert!(text(2, &three).starts_with("the distance between node 0 and node 2 is missing"));
}

#[test]
fn refuses_nodes_that_do_not_fit() {
    assert_eq!(
        text(1, &["node,nodeid=0", "node,nodeid=0"]),
        "-numa node,nodeid=0 was given twice"
    );
    assert_eq!(
        text(1, &["node,nodeid=0", "node,nodeid=2,memdev=m"]),
        "-numa node,nodeid=2: there is no node 1; nodes are numbered from 0 without gaps"
    );
    assert_eq!(
        text(2, &["node,cpus=0-1", "node,cpus=1"]),
        "vCPU 1 is in node 0 and in node 1"
    );
    assert!(text(2, &["node,cpus=0-2"]).contains("there is no vCPU 2; -smp gives the guest 2 vCPUs"));
    assert!(text(3, &["node,cpus=0"]).starts_with("vCPU 1, 2 belongs to no node"));
    assert!(text(2, &["node,memdev=a", "node,memdev=b"]).starts_with("vCPU 0, 1 belongs to no node"));
    assert_eq!(
        text(1, &["node,cpus=0", "node"]),
        "node 1 has neither vCPUs (cpus=) nor memory (memdev=)"
    );
}

proptest! {
    /// Each vCPU is in the node that was named for it, and the distances are those given.
    #[test]
    fn nothing_is_lost(
        places in prop::collection::vec(0_u8..6, 1..30),
        distances in prop::collection::vec(11_u8..=255, 36),
    ) {
        let nodes = 6;
        let mut args: Vec<NumaArg> = Vec::new();
        for id in 0..nodes {
            args.push(numa(&format!("node,nodeid={id},memdev=m{id}")).unwrap());
            for to in (0..nodes).filter(|to| *to != id) {
                let distance = distances[usize::from(id * nodes + to)];
                args.push(NumaArg::Distance { from: id, to, distance });
            }
        }
        for (vcpu, node) in (0..).zip(&places) {
            args.push(NumaArg::Cpu { node: *node, socket: None, core: Some(vcpu), thread: None });
        }
        let topology = Topology::one_socket(u8::try_from(places.len()).unwrap()).unwrap();
        let plan = plan(&args, topology).unwrap();
        for (vcpu, node) in (0..).zip(&places) {
            prop_assert!(plan.nodes[usize::from(*node)].vcpus.contains(&vcpu));
        }
        prop_assert_eq!(plan.nodes.iter().map(|node| node.vcpus.len()).sum::<usize>(), places.len());
        for (from, row) in plan.distances.iter().enumerate() {
            for (to, distance) in row.iter().enumerate() {
                let expected = if from == to { 10 } else { distances[from * 6 + to] };
                prop_assert_eq!(*distance, expected);
            }
        }
    }
}
