//! `struct boot_params`, which Linux calls the zero page: what a boot loader tells a kernel.
//!
//! Fields: `Documentation/arch/x86/zero-page.rst` and `boot.rst` of Linux.

use linux_loader::loader::bootparam::{boot_e820_entry, boot_params, setup_header};
use memory::GuestRange;
use memory::layout::{ACPI_START, CMDLINE};
use vm_memory::{Address, ByteValued};

use crate::memory_map::MapEntry;

/// "Undefined": the number for boot loaders that have none of their own.
const LOADER_TYPE: u8 = 0xff;
const BOOT_FLAG: u16 = 0xaa55;
const HEADER_MAGIC: u32 = u32::from_le_bytes(*b"HdrS");
/// The protocol that a kernel without a header of its own is told: the first with all fields that we fill.
const PROTOCOL: u16 = 0x020c;
const LOADED_HIGH: u8 = 1;
/// As bzImages for x86-64 have it.
const KERNEL_ALIGNMENT: u32 = 0x0020_0000;

/// The zero page's 4096 bytes.
///
/// `header` is the kernel's own setup header, which an ELF file does not have. `initrd` lies below 4 GiB.
pub(crate) fn build(header: Option<setup_header>, initrd: Option<GuestRange>, map: &[MapEntry]) -> Vec<u8> {
    let mut params = boot_params {
        hdr: header.unwrap_or_else(elf_header),
        ..Default::default()
    };
    params.hdr.type_of_loader = LOADER_TYPE;
    params.hdr.loadflags |= LOADED_HIGH;
    params.hdr.setup_data = 0;
    params.hdr.cmd_line_ptr = low_word(CMDLINE);
    if let Some(initrd) = initrd {
        params.hdr.ramdisk_image = low_word(initrd.start.raw_value());
        params.hdr.ramdisk_size = low_word(initrd.len);
    }
    params.acpi_rsdp_addr = ACPI_START;

    let mut entries = 0u8;
    for (slot, entry) in params.e820_table.iter_mut().zip(map) {
        *slot = boot_e820_entry {
            addr: entry.start,
            size: entry.len(),
            r#type: entry.kind as u32,
        };
        entries = entries.saturating_add(1);
    }
    params.e820_entries = entries;
    params.as_slice().to_vec()
}

fn elf_header() -> setup_header {
    setup_header {
        boot_flag: BOOT_FLAG,
        header: HEADER_MAGIC,
        version: PROTOCOL,
        kernel_alignment: KERNEL_ALIGNMENT,
        ..Default::default()
    }
}

/// A value that fits into 32 bits because everything that is loaded lies below 3 GiB.
fn low_word(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
