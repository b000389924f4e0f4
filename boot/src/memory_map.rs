//! What the guest is told about its physical memory: one list for the zero page (E820) and for PVH.
//!
//! All of RAM is in it, either usable or under the name of a hole:
//! `EBDA_START` to `ACPI_START` is reserved (the place of a PC's video memory and option ROMs, where kernels look for
//! firmware), `ACPI_START` to 1 MiB holds our ACPI tables. The PCI configuration window (ECAM) is reserved because
//! Linux uses it early only when the firmware's map says so (`arch/x86/pci/mmconfig-shared.c`), and the pages that
//! KVM keeps for itself because nothing may be put there.

use memory::GuestRange;
use memory::layout::{ACPI_END, ACPI_START, EBDA_START, ECAM_SIZE, ECAM_START, KVM_IDENTITY_MAP, KVM_TSS};
use vm_memory::Address;

/// KVM's task state segment takes three pages (`KVM_SET_TSS_ADDR` in `Documentation/virt/kvm/api.rst`).
const KVM_TSS_SIZE: u64 = 3 * 4096;

/// The type of a range, by the numbers of the ACPI specification 6.5, table 15.4. PVH uses the same ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapKind {
    Ram = 1,
    Reserved = 2,
    Acpi = 3,
}

/// One line of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MapEntry {
    pub(crate) start: u64,
    /// Exclusive.
    pub(crate) end: u64,
    pub(crate) kind: MapKind,
}

impl MapEntry {
    pub(crate) fn len(&self) -> u64 {
        self.end - self.start
    }
}

/// What is not usable RAM, in the order of addresses.
const NAMED: [MapEntry; 4] = [
    MapEntry {
        start: EBDA_START,
        end: ACPI_START,
        kind: MapKind::Reserved,
    },
    MapEntry {
        start: ACPI_START,
        end: ACPI_END,
        kind: MapKind::Acpi,
    },
    MapEntry {
        start: ECAM_START,
        end: ECAM_START + ECAM_SIZE,
        kind: MapKind::Reserved,
    },
    MapEntry {
        start: KVM_IDENTITY_MAP,
        end: KVM_TSS + KVM_TSS_SIZE,
        kind: MapKind::Reserved,
    },
];

/// The map of a guest whose RAM is `regions`: sorted, without overlaps, neighbouring RAM as one entry.
pub(crate) fn memory_map(regions: &[GuestRange]) -> Vec<MapEntry> {
    let mut ram: Vec<(u64, u64)> = regions
        .iter()
        .map(|region| (region.start.raw_value(), region.end()))
        .collect();
    ram.sort_unstable();
    let mut map: Vec<MapEntry> = NAMED.to_vec();
    let mut usable: Vec<MapEntry> = Vec::new();
    for (start, end) in ram {
        for (start, end) in outside_named(start, end) {
            match usable.last_mut() {
                Some(last) if last.end == start => last.end = end,
                _ => usable.push(MapEntry {
                    start,
                    end,
                    kind: MapKind::Ram,
                }),
            }
        }
    }
    map.extend(usable);
    map.sort_unstable_by_key(|entry| entry.start);
    map
}

/// The parts of `start..end` that bear no other name.
fn outside_named(start: u64, end: u64) -> Vec<(u64, u64)> {
    let mut parts = Vec::new();
    let mut at = start;
    for named in NAMED {
        if at < named.start.min(end) {
            parts.push((at, named.start.min(end)));
        }
        at = at.max(named.end);
    }
    if at < end {
        parts.push((at, end));
    }
    parts
}

#[cfg(test)]
mod tests;
