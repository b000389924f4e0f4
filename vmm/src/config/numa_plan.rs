//! The guest's NUMA nodes, from `-numa` and `-smp`.

use std::collections::{BTreeMap, BTreeSet};

use memory::host::cpus::CpuList;

use crate::cli::numa_options::NumaArg;
use crate::topology::Topology;

/// Of a node to itself (ACPI specification 6.5, section 5.2.17).
const LOCAL: u8 = 10;
/// Between two nodes when no `-numa dist` says anything, as Linux and QEMU have it.
const REMOTE: u8 = 20;

/// `-numa` options that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumaError {
    /// Two nodes with one number.
    #[error("-numa node,nodeid={node} was given twice")]
    NodeTwice {
        /// The number.
        node: u8,
    },
    /// Numbers with a gap.
    #[error(
        "-numa node,nodeid={highest}: there is no node {missing}; nodes are numbered from 0 without gaps"
    )]
    Gap {
        /// The highest number.
        highest: u8,
        /// The first that is missing.
        missing: u8,
    },
    /// A node that was not defined.
    #[error("{option}{node}: there is no node {node}; -numa node defines one")]
    UnknownNode {
        /// The option, up to the number.
        option: &'static str,
        /// The number.
        node: u8,
    },
    /// A vCPU that there is not.
    #[error("-numa node,nodeid={node},cpus={vcpu}: there is no vCPU {vcpu}; -smp gives the guest {topology}")]
    UnknownVcpu {
        /// The node.
        node: u8,
        /// The vCPU.
        vcpu: u8,
        /// Those that there are.
        topology: Topology,
    },
    /// A place without a vCPU.
    #[error(
        "-numa cpu,node-id={node}: no vCPU has this socket-id, core-id and thread-id; -smp gives the guest {topology}"
    )]
    UnknownPlace {
        /// The node.
        node: u8,
        /// The vCPUs that there are.
        topology: Topology,
    },
    /// A vCPU in two nodes.
    #[error("vCPU {vcpu} is in node {first} and in node {second}")]
    VcpuTwice {
        /// The vCPU.
        vcpu: u8,
        /// One of its nodes.
        first: u8,
        /// The other.
        second: u8,
    },
    /// vCPUs in no node.
    #[error("vCPU {vcpus} belongs to no node: -numa node,cpus= says which one does")]
    VcpusWithoutNode {
        /// The vCPUs, as a list.
        vcpus: String,
    },
    /// A node with nothing in it.
    #[error("node {node} has neither vCPUs (cpus=) nor memory (memdev=)")]
    Empty {
        /// The node.
        node: u8,
    },
    /// A node that is not at home.
    #[error("-numa dist,src={node},dst={node},val={distance}: a node is at distance 10 from itself")]
    NotLocal {
        /// The node.
        node: u8,
        /// What was asked.
        distance: u8,
    },
    /// Two distances for one way.
    #[error("the distance from node {from} to node {to} was given as {first} and as {second}")]
    DistanceTwice {
        /// The node.
        from: u8,
        /// The other.
        to: u8,
        /// One distance.
        first: u8,
        /// The other.
        second: u8,
    },
    /// CPUs for no vCPU.
    #[error("-numa node,nodeid={node},host-cpus= is for the node's vCPUs, and it has none")]
    NothingToPin {
        /// The node.
        node: u8,
    },
    /// Some distances, but not all.
    #[error("the distance between node {from} and node {to} is missing: give all -numa dist, or none")]
    DistanceMissing {
        /// The node.
        from: u8,
        /// The other.
        to: u8,
    },
}

/// The guest's nodes, by their number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NumaPlan {
    pub(super) nodes: Vec<Node>,
    /// From each node (row) to each node (column).
    pub(super) distances: Vec<Vec<u8>>,
}

/// One node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) vcpus: BTreeSet<u8>,
    /// The id of its backend.
    pub(super) memdev: Option<String>,
    /// Where its vCPUs run.
    pub(super) host_cpus: Option<CpuList>,
}

impl NumaPlan {
    /// The CPUs of the host that each vCPU is pinned to, by its index.
    pub(super) fn host_cpus(&self, topology: Topology) -> BTreeMap<u8, CpuList> {
        let pinned = |node: &Node| {
            let cpus = node.host_cpus.clone()?;
            Some(
                node.vcpus
                    .clone()
                    .into_iter()
                    .filter(move |vcpu| *vcpu < topology.vcpus())
                    .map(move |vcpu| (vcpu, cpus.clone())),
            )
        };
        self.nodes.iter().filter_map(pinned).flatten().collect()
    }
}

/// Which nodes the guest has; none when there is no `-numa node`.
pub(super) fn plan(args: &[NumaArg], topology: Topology) -> Result<NumaPlan, NumaError> {
    let mut nodes = nodes(args)?;
    place_vcpus(args, &mut nodes, topology)?;
    let mut left: BTreeSet<u8> = (0..topology.places()).collect();
    for node in &nodes {
        left.retain(|vcpu| !node.vcpus.contains(vcpu));
    }
    match &mut nodes[..] {
        [] => {}
        // One node has them all without saying.
        [node] if node.vcpus.is_empty() => node.vcpus.append(&mut left),
        _ if left.is_empty() => {}
        _ => {
            let vcpus: Vec<_> = left.iter().map(u8::to_string).collect();
            return Err(NumaError::VcpusWithoutNode {
                vcpus: vcpus.join(", "),
            });
        }
    }
    // The first of a sorted set.
    let has_vcpus = |node: &Node| node.vcpus.first().is_some_and(|vcpu| *vcpu < topology.vcpus());
    let idle = |node: &Node| node.host_cpus.is_some() && !has_vcpus(node);
    if let Some((node, _)) = (0..).zip(&nodes).find(|(_, node)| idle(node)) {
        return Err(NumaError::NothingToPin { node });
    }
    if nodes.len() > 1 {
        let empty = |node: &Node| node.vcpus.is_empty() && node.memdev.is_none();
        if let Some((node, _)) = (0..).zip(&nodes).find(|(_, node)| empty(node)) {
            return Err(NumaError::Empty { node });
        }
    }
    Ok(NumaPlan {
        distances: distances(args, &nodes)?,
        nodes,
    })
}

fn nodes(args: &[NumaArg]) -> Result<Vec<Node>, NumaError> {
    let mut nodes = BTreeMap::new();
    for arg in args {
        let NumaArg::Node(node) = arg else { continue };
        // As many as there were before it, as with QEMU.
        let id = node.id.unwrap_or(u8::try_from(nodes.len()).unwrap_or(u8::MAX));
        let new = Node {
            vcpus: node.cpus.clone(),
            memdev: node.memdev.clone(),
            host_cpus: node.host_cpus.clone(),
        };
        if nodes.insert(id, new).is_some() {
            return Err(NumaError::NodeTwice { node: id });
        }
    }
    let missing = (0..).zip(nodes.keys()).find(|(expected, id)| *expected != **id);
    match (missing, nodes.last_key_value()) {
        (Some((missing, _)), Some((highest, _))) => Err(NumaError::Gap {
            highest: *highest,
            missing,
        }),
        _ => Ok(nodes.into_values().collect()),
    }
}

/// Adds the vCPUs of `-numa cpu` to those of `-numa node`, and checks that each is there and is there once.
fn place_vcpus(args: &[NumaArg], nodes: &mut [Node], topology: Topology) -> Result<(), NumaError> {
    for arg in args {
        let NumaArg::Cpu {
            node,
            socket,
            core,
            thread,
        } = *arg
        else {
            continue;
        };
        let found: Vec<u8> = (0..topology.places())
            .filter(|vcpu| socket.is_none_or(|socket| socket == topology.socket(*vcpu)))
            .filter(|vcpu| core.is_none_or(|core| core == topology.core(*vcpu)))
            .filter(|vcpu| thread.is_none_or(|thread| thread == topology.thread(*vcpu)))
            .collect();
        if found.is_empty() {
            return Err(NumaError::UnknownPlace { node, topology });
        }
        let option = "-numa cpu,node-id=";
        let place = nodes.get_mut(usize::from(node));
        place
            .ok_or(NumaError::UnknownNode { option, node })?
            .vcpus
            .extend(found);
    }
    let mut seen = BTreeMap::new();
    for (node, vcpus) in (0..).zip(nodes.iter().map(|node| &node.vcpus)) {
        for &vcpu in vcpus {
            if vcpu >= topology.places() {
                return Err(NumaError::UnknownVcpu { node, vcpu, topology });
            }
            if let Some(first) = seen.insert(vcpu, node) {
                return Err(NumaError::VcpuTwice {
                    vcpu,
                    first,
                    second: node,
                });
            }
        }
    }
    Ok(())
}

/// What `-numa dist` says, and for a way that it does not name what it says of the way back.
fn distances(args: &[NumaArg], nodes: &[Node]) -> Result<Vec<Vec<u8>>, NumaError> {
    let mut given: BTreeMap<(u8, u8), u8> = BTreeMap::new();
    for arg in args {
        let NumaArg::Distance { from, to, distance } = *arg else {
            continue;
        };
        for (option, node) in [("-numa dist,src=", from), ("-numa dist,dst=", to)] {
            if usize::from(node) >= nodes.len() {
                return Err(NumaError::UnknownNode { option, node });
            }
        }
        if from == to && distance != LOCAL {
            return Err(NumaError::NotLocal { node: from, distance });
        }
        if let Some(first) = given.insert((from, to), distance)
            && first != distance
        {
            return Err(NumaError::DistanceTwice {
                from,
                to,
                first,
                second: distance,
            });
        }
    }
    let default = given.keys().all(|(from, to)| from == to).then_some(REMOTE);
    let distance = |from: u8, to: u8| {
        let own = (from == to).then_some(LOCAL);
        let given = given.get(&(from, to)).or_else(|| given.get(&(to, from)));
        own.or(given.copied())
            .or(default)
            .ok_or(NumaError::DistanceMissing { from, to })
    };
    let ids = || (0..).take(nodes.len());
    ids()
        .map(|from| ids().map(|to| distance(from, to)).collect())
        .collect()
}

#[cfg(test)]
mod tests;
