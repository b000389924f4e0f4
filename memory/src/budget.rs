//! What a guest can cost the host in all, beside what the host can give.
//!
//! Lazy memory is promised to more guests than there is memory for: that is what hosts are shared for. But it shall not come as a
//! surprise, nor as the kernel's OOM killer. What is found here holds for the moment of the start.

use std::fmt;
use std::fs;

use crate::backend::{self, BackendSpec, Lock, Source};
use crate::host::cgroup;
use crate::host::hugepages::Pool;
use crate::host::meminfo;
use crate::size::{ByteSize, PageSize};

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

/// What the host has of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supply {
    /// Of what.
    pub source: Source,
    /// What is left.
    pub left: ByteSize,
    /// `3 GiB of 8 GiB are available on this host`.
    pub found: String,
    /// What to do where it is not enough.
    pub remedy: String,
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
            });
        }
        let beside = std::iter::once(("page tables", ByteSize::from_bytes(tables))).chain(beside);
        costs.extend(beside.map(|(what, size)| Cost {
            what: what.to_owned(),
            size,
            source: Source::Memory,
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
        let pools = self.unreserved.iter().flat_map(|page| pool(*page));
        self.compare(memory(self.swappable).into_iter().chain(pools))
    }

    /// Compares with `supplies`.
    ///
    /// # Errors
    /// As [`Budget::check`].
    pub fn compare(&self, supplies: impl IntoIterator<Item = Supply>) -> Result<(), OverBudget> {
        let lack = |supply: Supply| {
            let sum = self.sum(supply.source);
            (sum > supply.left).then(|| {
                let name = match supply.source {
                    Source::Pool(page) => format!("in pages of {page}"),
                    Source::Memory | Source::Cache => "of memory".to_owned(),
                };
                let parts = self.parts(supply.source);
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

    fn sum(&self, source: Source) -> ByteSize {
        let costs = self.costs.iter().filter(|cost| cost.source == source);
        let sum = costs.fold(0_u64, |sum, cost| sum.saturating_add(cost.size.bytes()));
        ByteSize::from_bytes(sum)
    }

    /// `backend 'a' 1 GiB, page tables 4 MiB`.
    fn parts(&self, source: Source) -> String {
        let costs = self.costs.iter().filter(|cost| cost.source == source);
        let parts: Vec<_> = costs
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

/// What limits memory that is not of a pool: the host, what it promises, and the control groups.
fn memory(swappable: bool) -> Vec<Supply> {
    let amounts = meminfo::host();
    let size = |name| amounts.size(name).unwrap_or_default();
    let supply = |left: ByteSize, found: String, remedy: &str| Supply {
        source: Source::Memory,
        left,
        found,
        remedy: remedy.to_owned(),
    };
    let mut supplies = Vec::new();
    let swap = if swappable {
        size("SwapFree")
    } else {
        ByteSize::ZERO
    };
    let with_swap =
        |left: ByteSize, swap: ByteSize| ByteSize::from_bytes(left.bytes().saturating_add(swap.bytes()));
    if let Some(available) = amounts.size("MemAvailable") {
        let left = with_swap(available, swap);
        let mut found = format!(
            "{} of {} are available on this host",
            down(available),
            down(size("MemTotal"))
        );
        if swap > ByteSize::ZERO {
            found = format!("{found}, and {} of swap", down(swap));
        }
        supplies.push(supply(
            left,
            found,
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
        let mut found = format!(
            "{} of {} are left by {}",
            down(limit.left()),
            down(limit.max),
            limit.file.display()
        );
        if swap > ByteSize::ZERO {
            found = format!("{found}, and {} of swap", down(swap));
        }
        supplies.push(supply(
            with_swap(limit.left(), swap),
            found,
            "make the guest smaller, or raise that limit",
        ));
    }
    supplies
}

/// What limits huge pages that are taken when they are touched.
fn pool(page: PageSize) -> Vec<Supply> {
    let source = Source::Pool(page);
    let pool = Pool::read(page, None).ok().map(|pool| {
        let pages = pool.free.saturating_add(pool.growth);
        Supply {
            source,
            left: ByteSize::from_bytes(pages.saturating_mul(page.bytes())),
            found: format!("the pool has {pool}"),
            remedy: "make the guest smaller or the pool larger".to_owned(),
        }
    });
    let limit = cgroup::huge_pages(page).map(|limit| Supply {
        source,
        left: limit.left(),
        found: limit.to_string(),
        remedy: "make the guest smaller, or raise that limit".to_owned(),
    });
    pool.into_iter().chain(limit).collect()
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
