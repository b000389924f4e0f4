//! `struct hvm_start_info` and the lists it points to: PVH's zero page.
//!
//! Layout: `include/xen/interface/hvm/start_info.h` of Linux, version 1.

use linux_loader::start_info::{
    XEN_HVM_START_MAGIC_VALUE, hvm_memmap_table_entry, hvm_modlist_entry, hvm_start_info,
};
use memory::GuestRange;
use memory::layout::{ACPI_START, CMDLINE, ZERO_PAGE};
use vm_memory::{Address, ByteValued};

use crate::memory_map::MapEntry;

/// The start info, then the list of modules, then the memory map: what goes to [`ZERO_PAGE`].
pub(crate) fn build(initrd: Option<GuestRange>, map: &[MapEntry]) -> Vec<u8> {
    let modules: Vec<hvm_modlist_entry> = initrd
        .iter()
        .map(|range| hvm_modlist_entry {
            paddr: range.start.raw_value(),
            size: range.len,
            ..Default::default()
        })
        .collect();
    let modules_at = ZERO_PAGE + size::<hvm_start_info>();
    let map_at = modules_at + size::<hvm_modlist_entry>();
    let start_info = hvm_start_info {
        magic: XEN_HVM_START_MAGIC_VALUE,
        version: 1,
        flags: 0,
        nr_modules: count(modules.len()),
        modlist_paddr: if modules.is_empty() { 0 } else { modules_at },
        cmdline_paddr: CMDLINE,
        rsdp_paddr: ACPI_START,
        memmap_paddr: map_at,
        memmap_entries: count(map.len()),
        reserved: 0,
    };
    let mut bytes = start_info.as_slice().to_vec();
    bytes.extend_from_slice(modules.first().copied().unwrap_or_default().as_slice());
    for entry in map {
        let entry = hvm_memmap_table_entry {
            addr: entry.start,
            size: entry.len(),
            type_: entry.kind as u32,
            reserved: 0,
        };
        bytes.extend_from_slice(entry.as_slice());
    }
    bytes
}

const fn size<T>() -> u64 {
    size_of::<T>() as u64
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
