//! The page tables and the descriptor table that the boot CPU starts with; the kernel soon makes its own.
//!
//! Formats: AMD64 Architecture Programmer's Manual volume 2, chapters 4 (descriptors) and 5 (page tables).

use memory::layout::PAGE_TABLES;

use crate::kernel::KernelEntry;

/// The selector of the flat code segment: 64-bit, or 32-bit for PVH. Linux's boot protocol wants this number.
pub const CODE_SELECTOR: u16 = 0x10;
/// The selector of the flat data segment. Linux's boot protocol wants this number.
pub const DATA_SELECTOR: u16 = 0x18;
/// The selector of the task state segment, which no kernel uses, but KVM wants the task register to be valid.
pub const TSS_SELECTOR: u16 = 0x20;
/// The limit of the descriptor table: six entries of 8 bytes, less one.
pub const GDT_LIMIT: u16 = 6 * 8 - 1;

const CODE64: u64 = 0x00af_9b00_0000_ffff;
const CODE32: u64 = 0x00cf_9b00_0000_ffff;
const DATA: u64 = 0x00cf_9300_0000_ffff;
/// A busy 64-bit (in PVH's case 32-bit) task state segment at 0 with a limit of 0x67, the least that is legal.
const TSS: u64 = 0x0000_8b00_0000_0067;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const TABLE: u64 = 4096;
const ENTRIES: u64 = 512;
/// What one entry of a page directory maps: large pages of 2 MiB, which every x86-64 CPU has.
const LARGE_PAGE: u64 = 2 << 20;
const DIRECTORIES: u64 = 4;

/// The descriptor table for `layout::GDT`: two unused entries, code, data, and a task state segment of two entries.
pub(crate) fn descriptor_table(entry: KernelEntry) -> Vec<u8> {
    let code = match entry {
        KernelEntry::Linux64 { .. } => CODE64,
        KernelEntry::Pvh { .. } => CODE32,
    };
    [0, 0, code, DATA, TSS, 0]
        .into_iter()
        .flat_map(u64::to_le_bytes)
        .collect()
}

/// Six tables for [`PAGE_TABLES`], which map the first 4 GiB to themselves: the top level, one table of directory
/// pointers, and four directories.
pub(crate) fn identity_map() -> Vec<u8> {
    let pointers = PAGE_TABLES + TABLE;
    let directory = |index: u64| pointers + TABLE + index * TABLE;
    let top = (0..ENTRIES).map(|index| {
        if index == 0 {
            pointers | PRESENT | WRITABLE
        } else {
            0
        }
    });
    let pointers = (0..ENTRIES).map(|index| {
        if index < DIRECTORIES {
            directory(index) | PRESENT | WRITABLE
        } else {
            0
        }
    });
    let pages = (0..DIRECTORIES * ENTRIES).map(|index| (index * LARGE_PAGE) | PRESENT | WRITABLE | LARGE);
    top.chain(pointers)
        .chain(pages)
        .flat_map(u64::to_le_bytes)
        .collect()
}

#[cfg(test)]
mod tests;
