//! What the host has for a guest at the moment.

use std::fs;

use super::{Cost, down};
use crate::backend::Source;
use crate::host::cgroup;
use crate::host::hugepages::Pool;
use crate::host::meminfo;
use crate::host::numa::NodeSet;
use crate::size::{ByteSize, PageSize};

/// What the host has of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supply {
    /// Of what.
    pub source: Source,
    /// Where, if not anywhere.
    pub nodes: Option<NodeSet>,
    /// What is left.
    pub left: ByteSize,
    /// `3 GiB of 8 GiB are available on this host`.
    pub found: String,
    /// What to do where it is not enough.
    pub remedy: String,
}

impl Supply {
    /// Whether this cost can be met by nothing else.
    pub(super) fn must_give(&self, cost: &Cost) -> bool {
        let is_here = |nodes: &NodeSet| cost.nodes.as_ref().is_some_and(|all| all.is_subset(nodes));
        cost.source == self.source && self.nodes.as_ref().is_none_or(is_here)
    }
}

/// What limits memory that is not of a pool: the host, what it promises, and the control groups.
pub(super) fn memory(swappable: bool) -> Vec<Supply> {
    let amounts = meminfo::host();
    let size = |name| amounts.size(name).unwrap_or_default();
    let supply = |left: ByteSize, found: String, remedy: &str| Supply {
        source: Source::Memory,
        nodes: None,
        left,
        found,
        remedy: remedy.to_owned(),
    };
    let mut supplies = Vec::new();
    let swap = free_swap(swappable);
    if let Some(available) = amounts.size("MemAvailable") {
        let total = down(size("MemTotal"));
        supplies.push(supply(
            more(available, swap),
            with_swap(
                format!("{} of {total} are available on this host", down(available)),
                swap,
            ),
            "make the guest smaller, end something, or add swap",
        ));
    }
    if fs::read_to_string("/proc/sys/vm/overcommit_memory").is_ok_and(|mode| mode.trim() == "2") {
        let (limit, promised) = (size("CommitLimit"), size("Committed_AS"));
        supplies.push(supply(
            ByteSize::from_bytes(limit.bytes().saturating_sub(promised.bytes())),
            format!(
                "{} of {} are promised already (CommitLimit)",
                down(promised),
                down(limit)
            ),
            "make the guest smaller, or raise vm.overcommit_ratio or swap",
        ));
    }
    if let Some(limit) = cgroup::memory() {
        let swap = swap.min(cgroup::swap().map_or(swap, |limit| limit.left()));
        let found = format!(
            "{} of {} are left by {}",
            down(limit.left()),
            down(limit.max),
            limit.file.display()
        );
        supplies.push(supply(
            more(limit.left(), swap),
            with_swap(found, swap),
            "make the guest smaller, or raise that limit",
        ));
    }
    supplies
}

/// What some nodes alone have. The kernel has no `MemAvailable` of a node: here it is what is free, what the cache of files holds
/// and what can be reclaimed of the kernel's own, a little more than can be had.
pub(super) fn nodes(nodes: &NodeSet, swappable: bool) -> Supply {
    const AVAILABLE: [&str; 4] = ["MemFree", "Active(file)", "Inactive(file)", "SReclaimable"];
    let sum = |names: &[&str]| {
        let sizes = nodes.iter().flat_map(|node| {
            let amounts = meminfo::node(node);
            names
                .iter()
                .filter_map(move |name| amounts.size(name))
                .collect::<Vec<_>>()
        });
        sizes.fold(ByteSize::ZERO, more)
    };
    let swap = free_swap(swappable);
    let available = sum(&AVAILABLE);
    let total = down(sum(&["MemTotal"]));
    Supply {
        source: Source::Memory,
        nodes: Some(nodes.clone()),
        left: more(available, swap),
        found: with_swap(
            format!("{} of {total} are available there", down(available)),
            swap,
        ),
        remedy: "make the guest smaller, end something, or give it more nodes".to_owned(),
    }
}

/// What limits huge pages that are taken when they are touched.
pub(super) fn pool(page: PageSize) -> Vec<Supply> {
    let source = Source::Pool(page);
    let pool = Pool::read(page, None).ok().map(|pool| {
        let pages = pool.free.saturating_add(pool.growth);
        Supply {
            source,
            nodes: None,
            left: ByteSize::from_bytes(pages.saturating_mul(page.bytes())),
            found: format!("the pool has {pool}"),
            remedy: "make the guest smaller or the pool larger".to_owned(),
        }
    });
    let limit = cgroup::huge_pages(page).map(|limit| Supply {
        source,
        nodes: None,
        left: limit.left(),
        found: limit.to_string(),
        remedy: "make the guest smaller, or raise that limit".to_owned(),
    });
    pool.into_iter().chain(limit).collect()
}

/// Swap that is free, for a guest that can be swapped out.
fn free_swap(swappable: bool) -> ByteSize {
    let free = swappable.then(|| meminfo::host().size("SwapFree")).flatten();
    free.unwrap_or_default()
}

fn with_swap(found: String, swap: ByteSize) -> String {
    match swap > ByteSize::ZERO {
        true => format!("{found}, and {} of swap", down(swap)),
        false => found,
    }
}

fn more(left: ByteSize, right: ByteSize) -> ByteSize {
    ByteSize::from_bytes(left.bytes().saturating_add(right.bytes()))
}
