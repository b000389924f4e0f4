//! SLIT: how far the memory of each node is from each other node (ACPI specification 6.5, section 5.2.17).

use super::{length, table as table_of};
use crate::numa::GuestNuma;

const REVISION: u8 = 1;

/// The table of these nodes: their number, and a row of distances for each.
pub(super) fn table(numa: &GuestNuma) -> Vec<u8> {
    let mut content = Vec::new();
    content.extend((numa.distances.len() as u64).to_le_bytes());
    content.extend(numa.distances.iter().flatten());
    debug_assert_eq!(length(&content), 8 + (numa.distances.len() as u64).pow(2));
    table_of(*b"SLIT", REVISION, &content)
}
