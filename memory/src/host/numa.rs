//! The NUMA nodes of the host: which there are, and which CPUs and how much distance they have.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::str::FromStr;

use rustix::thread::CpuSet;
use thiserror::Error;

use super::cpus::CpuList;
use super::list;

/// Highest node number that a kernel for x86-64 can have (`CONFIG_NODES_SHIFT` is at most 10).
const MAX_NODE: u32 = 1023;
const NODES: &str = "/sys/devices/system/node";

/// A set of host nodes, written as the kernel writes lists: `0-1,3`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeSet(BTreeSet<u32>);

/// A text is no set of nodes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{text}' is not a list of nodes: write numbers from 0 to {MAX_NODE} and ranges, for example 0-1,3")]
pub struct NodeSetError {
    text: String,
}

impl NodeSet {
    /// Reads a list as `0-1,3`.
    ///
    /// # Errors
    /// [`NodeSetError`] when it is empty, malformed, or has a node above 1023.
    pub fn parse(text: &str) -> Result<Self, NodeSetError> {
        list::parse(text, MAX_NODE)
            .filter(|nodes| !nodes.is_empty())
            .map(Self)
            .ok_or_else(|| NodeSetError {
                text: text.to_owned(),
            })
    }

    /// Whether there is no node.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `node` is in the set.
    #[must_use]
    pub fn contains(&self, node: u32) -> bool {
        self.0.contains(&node)
    }

    /// How many nodes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether all nodes of this set are in `other`.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// The nodes, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// The nodes of this set that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// One bit for each node, as mbind(2) takes them.
    #[must_use]
    pub fn mask(&self) -> Vec<u64> {
        let words = self.0.last().map_or(1, |last| *last / 64 + 1);
        let bit = |word: u32| {
            let nodes = self.0.range(word * 64..(word + 1) * 64);
            nodes.fold(0, |bits, node| bits | 1_u64 << (node % 64))
        };
        (0..words).map(bit).collect()
    }
}

impl FromIterator<u32> for NodeSet {
    fn from_iter<T: IntoIterator<Item = u32>>(nodes: T) -> Self {
        Self(nodes.into_iter().filter(|node| *node <= MAX_NODE).collect())
    }
}

impl FromStr for NodeSet {
    type Err = NodeSetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl fmt::Display for NodeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list::write(f, &self.0)
    }
}

/// The nodes that have memory; node 0 on a kernel without NUMA.
#[must_use]
pub fn nodes() -> NodeSet {
    nodes_in(Path::new(NODES))
}

/// The nodes that this process may have memory of, where these are not all that have some: those of the cpuset of its control
/// group (proc_pid_status(5), `Mems_allowed_list`).
#[must_use]
pub fn confined() -> Option<NodeSet> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    confined_in(&status, &nodes())
}

fn confined_in(status: &str, nodes: &NodeSet) -> Option<NodeSet> {
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Mems_allowed_list:"))?;
    let allowed = NodeSet::parse(list.trim()).ok()?;
    (!nodes.is_subset(&allowed)).then_some(allowed)
}

/// Whether the kernel knows nodes, and so policies.
#[must_use]
pub fn is_supported() -> bool {
    Path::new("/proc/self/numa_maps").exists()
}

fn nodes_in(root: &Path) -> NodeSet {
    fs::read_to_string(root.join("has_memory"))
        .ok()
        .and_then(|text| NodeSet::parse(text.trim()).ok())
        .unwrap_or_else(|| NodeSet::from_iter([0]))
}

/// The CPUs of these nodes; none where the nodes only have memory.
#[must_use]
pub fn cpus(nodes: &NodeSet) -> CpuSet {
    cpus_in(Path::new(NODES), nodes)
}

/// The CPUs of a node as the kernel lists them (`0-3,8`); empty where it only has memory.
#[must_use]
pub fn cpu_list(node: u32) -> String {
    let list = fs::read_to_string(format!("{NODES}/node{node}/cpulist")).unwrap_or_default();
    list.trim().to_owned()
}

fn cpus_in(root: &Path, nodes: &NodeSet) -> CpuSet {
    let mut cpus = CpuSet::new();
    for node in nodes.iter() {
        let list = fs::read_to_string(root.join(format!("node{node}/cpulist"))).unwrap_or_default();
        // A node without CPUs has an empty list.
        let of_node: CpuList = list.trim().parse().unwrap_or_default();
        of_node.iter().for_each(|cpu| cpus.set(cpu as usize));
    }
    cpus
}

/// How far the memory of each node is from `node`, by ascending node number (ACPI 6.5, §5.2.17: 10 is local). Empty when the
/// host does not say.
#[must_use]
pub fn distances(node: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("{NODES}/node{node}/distance")).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// How often each of these nodes is taken in a weighted interleaving
/// (Documentation/ABI/testing/sysfs-kernel-mm-mempolicy-weighted-interleave): 1 where the host does not say.
#[must_use]
pub fn weights(nodes: &NodeSet) -> BTreeMap<u32, u64> {
    let weight = |node: u32| {
        let path = format!("/sys/kernel/mm/mempolicy/weighted_interleave/node{node}");
        let weight = super::read_number(Path::new(&path)).unwrap_or(1);
        (node, weight.max(1))
    };
    nodes.iter().map(weight).collect()
}

#[cfg(test)]
mod tests;
