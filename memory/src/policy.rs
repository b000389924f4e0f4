//! On which host nodes the pages of a mapping lie: set before the first touch, verified after.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use crate::host::numa::NodeSet;
use crate::mapping::Mapping;
use crate::proc::NumaMaps;
use crate::size::ByteSize;

/// The NUMA policy of a backend (mbind(2)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostPolicy {
    /// That of the process, as started.
    #[default]
    Default,
    /// On these nodes and on no other.
    Bind(NodeSet),
}

impl HostPolicy {
    /// The nodes, where the policy names some.
    #[must_use]
    pub fn nodes(&self) -> Option<&NodeSet> {
        match self {
            Self::Default => None,
            Self::Bind(nodes) => Some(nodes),
        }
    }
}

/// `default`, `bind 0-1`.
impl fmt::Display for HostPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Bind(nodes) => write!(f, "bind {nodes}"),
        }
    }
}

/// Sets the policy of a mapping whose pages nobody has touched.
pub(crate) fn apply(mapping: &Mapping, policy: &HostPolicy) -> io::Result<()> {
    match policy {
        HostPolicy::Default => Ok(()),
        HostPolicy::Bind(nodes) => mapping.bind(&nodes.mask()),
    }
}

/// What lies on nodes that the policy does not name.
pub(crate) fn misplaced(found: &NumaMaps, policy: &HostPolicy) -> BTreeMap<u32, ByteSize> {
    let Some(nodes) = policy.nodes() else {
        return BTreeMap::new();
    };
    let elsewhere = found.nodes.iter().filter(|(node, _)| !nodes.contains(**node));
    elsewhere
        .map(|(node, pages)| (*node, ByteSize::from_bytes(pages * found.page_kib * 1024)))
        .collect()
}

/// The policy as the kernel writes it in numa_maps (`bind:0-1`), in our words.
pub(crate) fn read_back(found: &NumaMaps) -> String {
    found.policy.replacen(':', " ", 1)
}

#[cfg(test)]
mod tests;
