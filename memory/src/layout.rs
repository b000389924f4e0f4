//! Where things lie in the guest's physical address space. Pure.
//!
//! The hole below 4 GiB is exactly 1 GiB, so that an address, its place in host memory and its place in the backing file
//! keep agreeing modulo every page size on both sides of it.

use thiserror::Error;
use vm_memory::GuestAddress;

use crate::range::GuestRange;
use crate::size::{ByteSize, PageSize};

/// End of low RAM and start of the 32-bit hole for devices: 3 GiB.
pub const HOLE_START: u64 = 0xC000_0000;
/// End of the 32-bit hole; RAM resumes here: 4 GiB.
pub const HOLE_END: u64 = 0x1_0000_0000;
/// Start of the window for 32-bit PCI memory.
pub const PCI32_WINDOW_START: u64 = HOLE_START;
/// End of the window for 32-bit PCI memory (exclusive).
pub const PCI32_WINDOW_END: u64 = 0xE000_0000;
/// PCI Express configuration space of segment 0 (PCI Firmware Specification 3.3, §4.1).
pub const ECAM_START: u64 = 0xE000_0000;
/// Bytes of configuration space: 256 buses of 1 MiB.
pub const ECAM_SIZE: u64 = 0x1000_0000;
/// The I/O APIC, where KVM's in-kernel one answers.
pub const IOAPIC: u64 = 0xFEC0_0000;
/// The local APIC of each vCPU (Intel SDM, volume 3, §12.4.1).
pub const LAPIC: u64 = 0xFEE0_0000;
/// One page for `KVM_SET_IDENTITY_MAP_ADDR`.
pub const KVM_IDENTITY_MAP: u64 = 0xFFFB_C000;
/// Three pages for `KVM_SET_TSS_ADDR`.
pub const KVM_TSS: u64 = 0xFFFB_D000;

/// First port of the serial port.
pub const COM1_PORT: u16 = 0x3F8;
/// Interrupt of the serial port, edge triggered.
pub const COM1_GSI: u32 = 4;
/// Interrupt of the generic event device.
pub const GED_GSI: u32 = 5;
/// First port of the sleep, reset and event registers.
pub const POWER_PORT: u16 = 0x600;
/// First interrupt after the I/O APIC's 24 pins; message-signalled interrupts are numbered from here.
pub const FIRST_MSI_GSI: u32 = 24;

/// The descriptor table that a Linux kernel is entered with.
pub const GDT: u64 = 0x500;
/// The boot parameters of Linux (Documentation/arch/x86/zero-page.rst).
pub const ZERO_PAGE: u64 = 0x7000;
/// The page tables that a 64-bit kernel is entered with.
pub const PAGE_TABLES: u64 = 0x9000;
/// The kernel's command line.
pub const CMDLINE: u64 = 0x2_0000;
/// Room for the command line, its final NUL included.
pub const CMDLINE_SIZE: u64 = 0x1_0000;
/// End of usable RAM below 640 KiB; what a PC keeps from here on is not used.
pub const EBDA_START: u64 = 0x9_FC00;
/// The ACPI tables, the RSDP first (ACPI 6.5, §5.2.5.1).
pub const ACPI_START: u64 = 0xE_0000;
/// End of the room for ACPI tables (exclusive), where RAM is usable again.
pub const ACPI_END: u64 = KERNEL_START;
/// Where kernels are loaded: 1 MiB.
pub const KERNEL_START: u64 = 0x10_0000;

/// No guest address may lie above: 52 bits, the most that x86-64 has (Intel SDM, volume 3, §4.1.4).
const ADDRESS_END: u64 = 1 << 52;

/// One contiguous piece of a backend in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Index of the backend in the list given to [`place`].
    pub backend: usize,
    /// Where the piece starts in the backend, in bytes.
    pub offset: u64,
    /// Where the guest sees it.
    pub guest: GuestRange,
}

/// Why RAM cannot be laid out.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// No backend at all.
    #[error("a guest needs at least one memory backend")]
    NoBackend,
    /// A backend has no bytes.
    #[error("memory backend {backend} has size 0")]
    Empty {
        /// Index of the backend.
        backend: usize,
    },
    /// A size that ends inside a page.
    #[error("memory backend {backend} has {size}, which is not a multiple of its page size, {page}")]
    Size {
        /// Index of the backend.
        backend: usize,
        /// Its size.
        size: ByteSize,
        /// Its page size.
        page: PageSize,
    },
    /// A backend would start inside one of its own pages.
    #[error(
        "memory backend {backend} with pages of {page} would start at guest address {start:#x}, which is not a multiple \
         of its page size: make the backends before it multiples of {page}"
    )]
    Boundary {
        /// Index of the backend.
        backend: usize,
        /// The guest address where it would start.
        start: u64,
        /// Its page size.
        page: PageSize,
    },
    /// RAM would reach beyond the physical addresses of x86-64.
    #[error("RAM ends above guest address {ADDRESS_END:#x}, the end of x86-64 physical addresses")]
    TooLarge,
}

/// Where RAM of `size` bytes ends: the hole lies in it when it is larger than 3 GiB.
#[must_use]
pub const fn ram_end(size: ByteSize) -> u64 {
    match size.bytes() {
        bytes @ ..=HOLE_START => bytes,
        bytes => bytes.saturating_add(HOLE_END - HOLE_START),
    }
}

/// Lays out backends one after the other from address 0, around the hole between [`HOLE_START`] and [`HOLE_END`].
///
/// `sizes` has the size of each backend and its page size. The result is sorted by guest address and has one entry for each
/// contiguous piece: a backend across the hole has two.
///
/// # Errors
/// [`LayoutError`] when a size or a boundary is no multiple of the backend's page, or when RAM does not fit.
pub fn place(sizes: &[(ByteSize, PageSize)]) -> Result<Vec<Placement>, LayoutError> {
    if sizes.is_empty() {
        return Err(LayoutError::NoBackend);
    }
    let mut placements = Vec::with_capacity(sizes.len() + 1);
    let mut next = 0;
    for (backend, &(size, page)) in sizes.iter().enumerate() {
        if size == ByteSize::ZERO {
            return Err(LayoutError::Empty { backend });
        }
        if !size.is_multiple_of(page) {
            return Err(LayoutError::Size { backend, size, page });
        }
        let start = next;
        if page.floor(start) != start {
            return Err(LayoutError::Boundary { backend, start, page });
        }
        let mut offset = 0;
        while offset < size.bytes() {
            let left = size.bytes() - offset;
            let len = if next < HOLE_START {
                left.min(HOLE_START - next)
            } else {
                left
            };
            let end = next
                .checked_add(len)
                .filter(|end| *end <= ADDRESS_END)
                .ok_or(LayoutError::TooLarge)?;
            placements.push(Placement {
                backend,
                offset,
                guest: GuestRange::new(GuestAddress(next), len),
            });
            offset += len;
            next = if end == HOLE_START { HOLE_END } else { end };
        }
    }
    Ok(placements)
}

#[cfg(test)]
mod tests;
