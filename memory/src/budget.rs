//! What a guest can cost the host in all, beside what the host can give.
//!
//! Lazy memory is promised to more guests than there is memory for: that is what hosts are shared for. But it shall not come as a
//! surprise, nor as the kernel's OOM killer. What is found here holds for the moment of the start.

use std::collections::BTreeSet;
use std::fmt;

use crate::backend::{self, BackendSpec, Lock, Source};
use crate::host::numa::{self, NodeSet};
use crate::size::{ByteSize, PageSize};

pub use self::supply::Supply;

mod supply;

/// Bytes of an entry of a page table.
const ENTRY: u64 = 8;
/// The kernel's tables and KVM's.
const TABLES: u64 = 2;

/// A part of what a guest costs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    /// `backend 'mem0'`, `page tables`.
    pub what: String,
    /// The most that it can come to.
    pub size: ByteSize,
    /// Where it comes from.
    pub source: Source,
    /// The nodes that alone may give it.
    pub nodes: Option<NodeSet>,
}

/// What a guest can cost.
#[derive(Clone, Debug)]
pub struct Budget {
    costs: Vec<Cost>,
    /// Whether some of it can be swapped out.
    swappable: bool,
    /// Pools that huge pages are taken from without a reservation. What is reserved is checked page by page when it is mapped.
    unreserved: Vec<PageSize>,
}

/// A guest can cost more than there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverBudget {
    /// For each supply that does not suffice: the sum, its parts, and what is there.
    lacks: Vec<String>,
}

impl Budget {
    /// What a guest over `backends` costs, with what it costs beside them.
    #[must_use]
    pub fn new<'a>(
        backends: impl IntoIterator<Item = &'a BackendSpec>,
        beside: impl IntoIterator<Item = (&'static str, ByteSize)>,
    ) -> Self {
        let mut swappable = false;
        let mut costs = Vec::new();
        let mut tables = 0_u64;
        let mut unreserved = Vec::new();
        let allowed = numa::confined();
        for spec in backends {
            let source = backend::source(spec);
            let page = source.page();
            swappable |= spec.lock == Lock::Off;
            tables = tables.saturating_add(spec.size.pages(page).saturating_mul(ENTRY * TABLES));
            if page.is_huge() && spec.reserve == Some(false) {
                unreserved.push(page);
            }
            costs.push(Cost {
                what: format!("backend '{}'", spec.id),
                size: spec.size,
                source,
                nodes: spec.policy.bound().or(allowed.as_ref()).cloned(),
            });
        }
        let beside = std::iter::once(("page tables", ByteSize::from_bytes(tables))).chain(beside);
        costs.extend(beside.map(|(what, size)| Cost {
            what: what.to_owned(),
            size,
            source: Source::Memory,
            nodes: allowed.clone(),
        }));
        Self {
            costs,
            swappable,
            unreserved,
        }
    }

    /// Compares with what the host has now.
    ///
    /// # Errors
    /// [`OverBudget`] with each supply that does not suffice.
    pub fn check(&self) -> Result<(), OverBudget> {
        let pools = self.unreserved.iter().flat_map(|page| supply::pool(*page));
        let sets = self.costs.iter().filter(|cost| cost.source == Source::Memory);
        // What is bound to others is refused when it is mapped.
        let there = numa::nodes();
        let sets: BTreeSet<_> = sets
            .filter_map(|cost| cost.nodes.as_ref())
            .filter(|nodes| nodes.is_subset(&there))
            .collect();
        let nodes = sets.into_iter().map(|nodes| supply::nodes(nodes, self.swappable));
        let memory = supply::memory(self.swappable);
        self.compare(memory.into_iter().chain(nodes).chain(pools))
    }

    /// Compares with `supplies`.
    ///
    /// # Errors
    /// As [`Budget::check`].
    pub fn compare(&self, supplies: impl IntoIterator<Item = Supply>) -> Result<(), OverBudget> {
        let lack = |supply: Supply| {
            let sum = self.sum(&supply);
            (sum > supply.left).then(|| {
                let mut name = match supply.source {
                    Source::Pool(page) => format!("in pages of {page}"),
                    Source::Memory | Source::Cache => "of memory".to_owned(),
                };
                if let Some(nodes) = &supply.nodes {
                    name = format!("{name} on node {nodes}");
                }
                let parts = self.parts(&supply);
                let (sum, found, remedy) = (up(sum), supply.found, supply.remedy);
                format!("the guest can need {sum} {name} ({parts}), but {found}: {remedy}")
            })
        };
        let lacks: Vec<_> = supplies.into_iter().filter_map(lack).collect();
        match lacks.is_empty() {
            true => Ok(()),
            false => Err(OverBudget { lacks }),
        }
    }

    /// What can come from nowhere else.
    fn of<'a>(&'a self, supply: &'a Supply) -> impl Iterator<Item = &'a Cost> {
        self.costs.iter().filter(|cost| supply.must_give(cost))
    }

    fn sum(&self, supply: &Supply) -> ByteSize {
        let sum = self
            .of(supply)
            .fold(0_u64, |sum, cost| sum.saturating_add(cost.size.bytes()));
        ByteSize::from_bytes(sum)
    }

    /// `backend 'a' 1 GiB, page tables 4 MiB`.
    fn parts(&self, supply: &Supply) -> String {
        let parts: Vec<_> = self
            .of(supply)
            .map(|cost| format!("{} {}", cost.what, up(cost.size)))
            .collect();
        parts.join(", ")
    }
}

/// All costs in one line.
impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self
            .costs
            .iter()
            .map(|cost| format!("{} {}", cost.what, up(cost.size)))
            .collect();
        write!(f, "the guest can cost: {}", parts.join(", "))
    }
}

impl std::error::Error for OverBudget {}

impl fmt::Display for OverBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lacks.join("; "))
    }
}

/// Costs are rounded up to MiB for people,
fn up(size: ByteSize) -> ByteSize {
    ByteSize::mib(size.bytes().div_ceil(1 << 20))
}

/// and what is there is rounded down.
fn down(size: ByteSize) -> ByteSize {
    ByteSize::mib(size.bytes() >> 20)
}

#[cfg(test)]
mod tests;
