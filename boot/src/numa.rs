//! The NUMA nodes of the guest, as its tables tell them.

use memory::GuestRange;

/// What belongs to which node. Nodes are numbered from 0 without gaps: they are the proximity domains of ACPI, whose table of
/// distances has a row for each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestNuma {
    /// The node of each vCPU, in the order of the vCPUs.
    pub cpus: Vec<u32>,
    /// The node of each piece of RAM.
    pub memory: Vec<(GuestRange, u32)>,
    /// From each node (row) to each node (column): 10 to itself, 255 where there is no way.
    pub distances: Vec<Vec<u8>>,
}
