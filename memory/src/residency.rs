//! What the host holds for a backend now. *Freed* means this number before minus this number after.

use std::io;
use std::time::Instant;

use crate::backend::{Backend, BackendSpec, Prealloc};
use crate::mapping::Mapping;
use crate::policy;
use crate::proc;
use crate::size::{ByteSize, PageSize};

/// What the host holds for one backend at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Residency {
    /// The backend.
    pub backend: String,
    /// Its size.
    pub size: ByteSize,
    /// What the host holds: resident pages of private memory (smaps `Rss`), blocks of the file for shared memory, which for
    /// hugetlb are the huge pages taken from the pool.
    pub resident: ByteSize,
    /// Swapped out (smaps `Swap`).
    pub swapped: ByteSize,
    /// Of it in transparent huge pages (smaps `AnonHugePages`, `ShmemPmdMapped`).
    pub transparent_huge: ByteSize,
    /// Of it merged by KSM (smaps `KSM`; 0 before Linux 6.7).
    pub merged: ByteSize,
    /// Of it on nodes that have more than the policy gives them; 0 for a policy without nodes.
    pub misplaced: ByteSize,
    /// Where the pages lie that are mapped: one entry for each node that has some. Empty on a kernel without NUMA.
    pub nodes: Vec<NodeResidency>,
}

/// What lies on one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeResidency {
    /// The host node.
    pub node: u32,
    /// The size of the pages; [`PageSize::BASE`] for transparent huge pages, as the kernel counts them.
    pub page_size: PageSize,
    /// Bytes.
    pub bytes: ByteSize,
}

/// What the host held for all backends at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When it was read.
    pub at: Instant,
    /// For each backend, in their order.
    pub backends: Vec<Residency>,
}

impl Residency {
    pub(crate) fn read(spec: &BackendSpec, backend: &dyn Backend, mapping: &Mapping) -> io::Result<Self> {
        let smaps = proc::smaps(mapping)?;
        let numa = proc::numa_maps(mapping)?.unwrap_or_default();
        let page_bytes = numa.page_kib.saturating_mul(1024);
        let page_size = PageSize::from_bytes(page_bytes).unwrap_or(backend.page_size());
        let on_node = |(node, pages): (&u32, &u64)| NodeResidency {
            node: *node,
            page_size,
            bytes: ByteSize::from_bytes(pages.saturating_mul(page_bytes)),
        };
        let misplaced = policy::misplaced(&numa, &spec.policy, spec.prealloc == Prealloc::On);
        let transparent = ["AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"];
        let transparent = transparent.map(|name| smaps.size(name).bytes());
        Ok(Self {
            backend: spec.id.clone(),
            size: ByteSize::from_bytes(mapping.len()),
            resident: backend.resident(mapping)?,
            swapped: smaps.size("Swap"),
            transparent_huge: ByteSize::from_bytes(transparent.iter().sum()),
            merged: smaps.size("KSM"),
            misplaced: ByteSize::from_bytes(misplaced.values().map(|bytes| bytes.bytes()).sum()),
            nodes: numa.nodes.iter().map(on_node).collect(),
        })
    }
}
