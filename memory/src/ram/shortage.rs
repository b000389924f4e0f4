//! Huge pages that are not there, said before they are missed.

use std::fmt;

use crate::backend::{BackendSpec, NodeSet};
use crate::host::hugepages::Pool;
use crate::size::PageSize;

/// A pool has fewer pages than a backend needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shortage {
    id: String,
    needed: u64,
    pool: Pool,
    /// Pages of the pool that other backends of the same guest need.
    promised: u64,
}

/// What one backend needs of a pool.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) page: PageSize,
    nodes: Option<NodeSet>,
    pub(super) pages: u64,
}

impl Claim {
    pub(super) fn new(spec: &BackendSpec, page: PageSize) -> Self {
        Self {
            page,
            nodes: spec.policy.bound().cloned(),
            pages: spec.size.pages(page),
        }
    }

    /// Whether every page of this claim comes out of the same pool as `other` looks at.
    fn draws_on(&self, other: &Self) -> bool {
        let inside = match (&self.nodes, &other.nodes) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(nodes)) => own.is_subset(nodes),
        };
        inside && self.page == other.page
    }
}

/// Checks that the pool as it is now serves `claim` beside the claims `before` it, each with its backend. Two guests that
/// start at the same time may still take each other's pages; the reservation or the preallocation finds that out.
///
/// # Errors
/// The shortage. A pool that cannot be read is left to the kernel.
pub(super) fn check(id: &str, claim: &Claim, before: &[(&str, Claim)]) -> Result<(), Shortage> {
    let Ok(pool) = Pool::read(claim.page, claim.nodes.as_ref()) else {
        return Ok(());
    };
    let promised = before.iter().filter(|(_, other)| other.draws_on(claim));
    let promised = promised.map(|(_, other)| other.pages).sum();
    let shortage = Shortage {
        id: id.to_owned(),
        needed: claim.pages,
        pool,
        promised,
    };
    if shortage.missing() > shortage.pool.growth {
        return Err(shortage);
    }
    Ok(())
}

/// A pool that has no page at all for a backend without a reservation: its guest could not even be loaded.
///
/// # Errors
/// The shortage.
pub(super) fn check_empty(id: &str, claim: &Claim) -> Result<(), Shortage> {
    match found(id, claim, 0) {
        Some(shortage) if shortage.pool.free + shortage.pool.growth == 0 => Err(shortage),
        Some(_) | None => Ok(()),
    }
}

/// What is short now for a backend that could not get all its pages, if the pool shows it. `held` is what it got.
pub(super) fn found(id: &str, claim: &Claim, held: u64) -> Option<Shortage> {
    let pool = Pool::read(claim.page, claim.nodes.as_ref()).ok()?;
    let short = pool.free + held < claim.pages;
    short.then(|| Shortage {
        id: id.to_owned(),
        needed: claim.pages,
        pool,
        promised: 0,
    })
}

impl Shortage {
    fn missing(&self) -> u64 {
        (self.needed + self.promised).saturating_sub(self.pool.free)
    }
}

impl std::error::Error for Shortage {}

/// `backend 'mem0' needs 64 pages of 2 MiB on node 1: 12 free (16 in the pool, 4 reserved)`, and what to do.
impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            needed,
            pool,
            promised,
        } = self;
        write!(f, "backend '{id}' needs {needed} pages of {}", pool.page)?;
        if let Some(nodes) = &pool.nodes {
            write!(f, " on node {nodes}")?;
        }
        write!(f, ": {pool}")?;
        if *promised > 0 {
            write!(f, ", of which other backends of this guest need {promised}")?;
        }
        write!(
            f,
            "; make the pool larger ({}) or the guest smaller",
            pool.remedy(self.missing())
        )
    }
}

#[cfg(test)]
mod tests;
