//! SRAT: which node each CPU and each piece of RAM belongs to (ACPI specification 6.5, section 5.2.16).

use super::{MAX_XAPIC, table as table_of};
use crate::BootPlatform;
use crate::numa::GuestNuma;

const REVISION: u8 = 3;
const ENABLED: u32 = 1;
const XAPIC: u8 = 0;
const MEMORY: u8 = 1;
const X2APIC: u8 = 2;
/// As the id of an xAPIC, "all".
const NOBODY: u8 = 255;

/// The table of a platform with these nodes.
pub(super) fn table(platform: &BootPlatform, numa: &GuestNuma) -> Vec<u8> {
    // "Reserved to be 1 for backward compatibility", and eight reserved bytes.
    let mut content = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (node, id) in cpus(platform, numa) {
        content.extend(cpu(id, node));
    }
    for (range, node) in &numa.memory {
        content.extend([MEMORY, 40]);
        content.extend(node.to_le_bytes());
        content.extend([0; 2]);
        content.extend(range.start.0.to_le_bytes());
        content.extend(range.len.to_le_bytes());
        content.extend([0; 4]);
        content.extend(ENABLED.to_le_bytes());
        content.extend([0; 8]);
    }
    table_of(*b"SRAT", REVISION, &content)
}

/// The node and the APIC id of each CPU, by node.
///
/// Linux numbers nodes as it meets their domains, those of CPUs before those of memory (`acpi_numa_init` in
/// drivers/acpi/numa/srat.c). So that its numbers are those of the user, a node without CPUs that stands before one with CPUs
/// gets the id that no CPU can have.
fn cpus(platform: &BootPlatform, numa: &GuestNuma) -> Vec<(u32, Option<u32>)> {
    let ids = platform.apic_ids.iter().copied().map(Some);
    let mut cpus: Vec<_> = numa.cpus.iter().copied().zip(ids).collect();
    let last = numa.cpus.iter().copied().max().unwrap_or(0);
    let empty = numa.memory.iter().map(|(_, node)| *node);
    let mut empty: Vec<u32> = (empty.filter(|node| *node < last && !numa.cpus.contains(node))).collect();
    empty.dedup();
    cpus.extend(empty.into_iter().map(|node| (node, None)));
    cpus.sort_unstable();
    cpus
}

/// The entry of the CPU with this APIC id, for which MADT has one of the same kind; `None`: of no CPU.
fn cpu(id: Option<u32>, node: u32) -> Vec<u8> {
    let [domain @ .., _, _, _] = node.to_le_bytes();
    let [_, high @ ..] = node.to_le_bytes();
    let mut entry = Vec::with_capacity(24);
    let short = |id: u32| u8::try_from(id).ok().filter(|_| id <= MAX_XAPIC);
    match id.map_or(Ok(NOBODY), |id| short(id).ok_or(id)) {
        Ok(short) => {
            entry.extend([XAPIC, 16]);
            entry.extend(domain);
            entry.push(short);
            entry.extend(ENABLED.to_le_bytes());
            entry.push(0);
            entry.extend(high);
            entry.extend([0; 4]);
        }
        Err(id) => {
            entry.extend([X2APIC, 24, 0, 0]);
            for word in [node, id, ENABLED, 0, 0] {
                entry.extend(word.to_le_bytes());
            }
        }
    }
    entry
}
