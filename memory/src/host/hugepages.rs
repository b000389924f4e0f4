//! The hugetlb pools of the host, per page size and node (Documentation/admin-guide/mm/hugetlbpage.rst).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::numa::{self, NodeSet};
use super::read_number;
use crate::size::PageSize;

const SYS: &str = "/sys";

/// The state of a pool, whole or on some nodes, in pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The size of its pages.
    pub page: PageSize,
    /// The nodes looked at; `None`: all.
    pub nodes: Option<NodeSet>,
    /// Pages in the pool.
    pub total: u64,
    /// Pages that nobody has and nobody has reserved.
    pub free: u64,
    /// Pages that are reserved and not yet used. Reservations are made for the host, not for a node: for some nodes this is
    /// what the other nodes cannot serve.
    pub reserved: u64,
    /// Pages in use.
    pub used: u64,
    /// Pages that the pool may grow by when it runs out (`nr_overcommit_hugepages`); not counted as free.
    pub growth: u64,
}

impl Pool {
    /// Reads the pool of pages of size `page` on `nodes`; `None`: on the whole host.
    ///
    /// # Errors
    /// `NotFound` when the kernel has no pool for this size.
    pub fn read(page: PageSize, nodes: Option<&NodeSet>) -> io::Result<Self> {
        Self::read_in(Path::new(SYS), page, nodes)
    }

    fn read_in(root: &Path, page: PageSize, nodes: Option<&NodeSet>) -> io::Result<Self> {
        let host = root.join("kernel/mm/hugepages").join(directory(page));
        let number = |name: &str| read_number(&host.join(name));
        let reserved = number("resv_hugepages")?;
        let free = number("free_hugepages")?;
        let growth = number("nr_overcommit_hugepages")?.saturating_sub(number("surplus_hugepages")?);
        let (total, free_here) = match nodes {
            None => (number("nr_hugepages")?, free),
            Some(nodes) => {
                let mut sum = (0, 0);
                for node in nodes.iter() {
                    let pool = node_directory(root, node, page);
                    sum.0 += read_number(&pool.join("nr_hugepages"))?;
                    sum.1 += read_number(&pool.join("free_hugepages"))?;
                }
                sum
            }
        };
        let elsewhere = free.saturating_sub(free_here);
        let reserved = reserved.saturating_sub(elsewhere).min(free_here);
        Ok(Self {
            page,
            nodes: nodes.cloned(),
            total,
            free: free_here - reserved,
            reserved,
            used: total.saturating_sub(free_here),
            growth,
        })
    }

    /// The command that makes the pool `missing` pages larger.
    #[must_use]
    pub fn remedy(&self, missing: u64) -> String {
        let root = Path::new(SYS);
        let (pool, total) = match self.nodes.as_ref().and_then(|nodes| nodes.iter().next()) {
            Some(node) => {
                let pool = node_directory(root, node, self.page);
                let total = read_number(&pool.join("nr_hugepages")).unwrap_or(self.total);
                (pool, total)
            }
            None => (
                root.join("kernel/mm/hugepages").join(directory(self.page)),
                self.total,
            ),
        };
        let file = pool.join("nr_hugepages");
        format!(
            "as root: echo {} > {}",
            total.saturating_add(missing),
            file.display()
        )
    }
}

/// `12 free (16 in the pool, 4 reserved)`, with what is in use where something is.
impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} free ({} in the pool, {} reserved",
            self.free, self.total, self.reserved
        )?;
        if self.used > 0 {
            write!(f, ", {} in use", self.used)?;
        }
        f.write_str(")")
    }
}

/// The pools that the host's kernel has, all nodes together.
#[must_use]
pub fn pools() -> Vec<Pool> {
    [PageSize::HUGE_2M, PageSize::HUGE_1G]
        .into_iter()
        .filter_map(|page| Pool::read(page, None).ok())
        .collect()
}

/// The pools of each node that has memory.
#[must_use]
pub fn pools_by_node() -> Vec<Pool> {
    let nodes = numa::nodes();
    let sizes = [PageSize::HUGE_2M, PageSize::HUGE_1G];
    let both = nodes.iter().flat_map(|node| sizes.map(|page| (node, page)));
    both.filter_map(|(node, page)| Pool::read(page, Some(&NodeSet::from_iter([node]))).ok())
        .collect()
}

fn directory(page: PageSize) -> String {
    format!("hugepages-{}kB", page.bytes() / 1024)
}

fn node_directory(root: &Path, node: u32, page: PageSize) -> PathBuf {
    root.join(format!("devices/system/node/node{node}/hugepages"))
        .join(directory(page))
}

#[cfg(test)]
mod tests;
