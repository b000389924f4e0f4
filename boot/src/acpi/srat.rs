//! SRAT: which node each CPU and each piece of RAM belongs to (ACPI specification 6.5, section 5.2.16).

use super::{MAX_XAPIC, table as table_of};
use crate::BootPlatform;
use crate::numa::GuestNuma;

const REVISION: u8 = 3;
const ENABLED: u32 = 1;
const XAPIC: u8 = 0;
const MEMORY: u8 = 1;
const X2APIC: u8 = 2;

/// The table of a platform with these nodes.
pub(super) fn table(platform: &BootPlatform, numa: &GuestNuma) -> Vec<u8> {
    // "Reserved to be 1 for backward compatibility", and eight reserved bytes.
    let mut content = vec![1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for (id, node) in platform.apic_ids.iter().zip(&numa.cpus) {
        content.extend(cpu(*id, *node));
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

/// The entry of the CPU with this APIC id. MADT has an entry of the same kind for it.
fn cpu(id: u32, node: u32) -> Vec<u8> {
    let [domain @ .., _, _, _] = node.to_le_bytes();
    let [_, high @ ..] = node.to_le_bytes();
    let mut entry = Vec::with_capacity(24);
    match u8::try_from(id) {
        Ok(short) if id <= MAX_XAPIC => {
            entry.extend([XAPIC, 16]);
            entry.extend(domain);
            entry.push(short);
            entry.extend(ENABLED.to_le_bytes());
            entry.push(0);
            entry.extend(high);
            entry.extend([0; 4]);
        }
        _ => {
            entry.extend([X2APIC, 24, 0, 0]);
            for word in [node, id, ENABLED, 0, 0] {
                entry.extend(word.to_le_bytes());
            }
        }
    }
    entry
}
