//! On which host nodes the pages of a mapping lie: set before the first touch, verified after.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use crate::host::numa::{self, NodeSet};
use crate::mapping::Mapping;
use crate::proc::NumaMaps;
use crate::size::{ByteSize, PageSize};

/// `MPOL_LOCAL` of linux/mempolicy.h.
const LOCAL: i32 = 4;

/// The NUMA policy of a backend (set_mempolicy(2), mbind(2)).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostPolicy {
    /// That of the process, as started.
    #[default]
    Default,
    /// On the node whose CPU touches a page first.
    Local,
    /// As the rule says, on these nodes.
    Nodes(Placing, NodeSet),
}

/// A rule for some nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// On these nodes and on no other.
    Bind,
    /// On this one node while it has room.
    Preferred,
    /// On these nodes while they have room (Linux 5.15).
    PreferredMany,
    /// On these nodes in turn.
    Interleave,
    /// On these nodes in turn, each as often as its weight says (Linux 6.9).
    WeightedInterleave,
}

impl Placing {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::Bind,
        Self::Preferred,
        Self::PreferredMany,
        Self::Interleave,
        Self::WeightedInterleave,
    ];

    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bind => "bind",
            Self::Preferred => "preferred",
            Self::PreferredMany => "preferred-many",
            Self::Interleave => "interleave",
            Self::WeightedInterleave => "weighted-interleave",
        }
    }

    /// Its number for the kernel, `MPOL_*` of linux/mempolicy.h.
    const fn number(self) -> i32 {
        match self {
            Self::Preferred => 1,
            Self::Bind => 2,
            Self::Interleave => 3,
            Self::PreferredMany => 5,
            Self::WeightedInterleave => 6,
        }
    }

    /// The kernel that brought it, where that is not every one.
    pub(crate) const fn since(self) -> Option<&'static str> {
        match self {
            Self::PreferredMany => Some("Linux 5.15"),
            Self::WeightedInterleave => Some("Linux 6.9"),
            Self::Bind | Self::Preferred | Self::Interleave => None,
        }
    }
}

impl HostPolicy {
    /// On these nodes and on no other.
    #[must_use]
    pub const fn bind(nodes: NodeSet) -> Self {
        Self::Nodes(Placing::Bind, nodes)
    }

    /// The nodes, where the policy names some.
    #[must_use]
    pub fn nodes(&self) -> Option<&NodeSet> {
        match self {
            Self::Default | Self::Local => None,
            Self::Nodes(_, nodes) => Some(nodes),
        }
    }

    /// The nodes that alone may give pages.
    #[must_use]
    pub fn bound(&self) -> Option<&NodeSet> {
        match self {
            Self::Nodes(Placing::Bind, nodes) => Some(nodes),
            Self::Default | Self::Local | Self::Nodes(..) => None,
        }
    }

    /// Its name on the command line.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Local => "local",
            Self::Nodes(placing, _) => placing.name(),
        }
    }
}

/// `default`, `bind 0-1`.
impl fmt::Display for HostPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        self.nodes().map_or(Ok(()), |nodes| write!(f, " {nodes}"))
    }
}

/// Sets the policy of a mapping whose pages nobody has touched.
pub(crate) fn apply(mapping: &Mapping, policy: &HostPolicy) -> io::Result<()> {
    match policy {
        HostPolicy::Default => Ok(()),
        HostPolicy::Local => mapping.place(LOCAL, &[]),
        HostPolicy::Nodes(placing, nodes) => mapping.place(placing.number(), &nodes.mask()),
    }
}

/// What lies where the policy does not want it: on other nodes, and with `complete`, when all pages are there, on nodes that
/// have more than their part of an interleaving, and `doubt` more bytes, by which `found` may be wrong.
pub(crate) fn misplaced(
    found: &NumaMaps,
    policy: &HostPolicy,
    complete: bool,
    doubt: u64,
) -> BTreeMap<u32, ByteSize> {
    let HostPolicy::Nodes(placing, nodes) = policy else {
        return BTreeMap::new();
    };
    let weights = match placing {
        Placing::Interleave if complete => nodes.iter().map(|node| (node, 1)).collect(),
        Placing::WeightedInterleave if complete => numa::weights(nodes),
        Placing::Bind
        | Placing::Preferred
        | Placing::PreferredMany
        | Placing::Interleave
        | Placing::WeightedInterleave => BTreeMap::new(),
    };
    let page = found.page_kib.saturating_mul(1024);
    let bytes = |pages: u64| pages.saturating_mul(page);
    let inside = found.nodes.iter().filter(|(node, _)| nodes.contains(**node));
    let total: u64 = inside.map(|(_, pages)| bytes(*pages)).sum();
    let excess = |(node, pages): (&u32, &u64)| {
        let wanted = match nodes.contains(*node) {
            false => 0,
            true if weights.is_empty() => u64::MAX,
            true => part(total, *node, &weights, page.max(PageSize::HUGE_2M.bytes())).saturating_add(doubt),
        };
        let excess = bytes(*pages).saturating_sub(wanted);
        (excess > 0).then_some((*node, ByteSize::from_bytes(excess)))
    };
    found.nodes.iter().filter_map(excess).collect()
}

/// The most that `node` gets of `total` bytes: its part by weight, and one turn more. A turn has as many pages, of `page`
/// bytes at most, as the weight says.
fn part(total: u64, node: u32, weights: &BTreeMap<u32, u64>, page: u64) -> u64 {
    let all: u64 = weights.values().sum();
    let own = weights.get(&node).copied().unwrap_or(0);
    let fair = u128::from(total) * u128::from(own) / u128::from(all.max(1));
    u64::try_from(fair)
        .unwrap_or(u64::MAX)
        .saturating_add(own.saturating_mul(page))
}

/// The policy as the kernel writes it in numa_maps (`bind:0-1`, `prefer (many):0`), in our words.
pub(crate) fn read_back(found: &NumaMaps) -> String {
    let (name, nodes) = found.policy.split_once(':').unwrap_or((&found.policy, ""));
    let name = match name {
        "prefer" => Placing::Preferred.name(),
        "prefer (many)" => Placing::PreferredMany.name(),
        "weighted interleave" => Placing::WeightedInterleave.name(),
        name => name,
    };
    match nodes {
        "" => name.to_owned(),
        nodes => format!("{name} {nodes}"),
    }
}

#[cfg(test)]
mod tests;
