//! A Linux kernel into guest RAM, and where to start it.
//!
//! [`check()`] refuses what can be refused while no memory has been taken yet; [`load()`] writes everything that the
//! guest finds in its RAM when the first vCPU starts, and says how that vCPU has to look ([`Entry`]). `load` may be
//! called again on the same RAM: that is how a machine is reset.
//!
//! What lies where (addresses in [`memory::layout`]):
//!
//! | address | written by | what |
//! |---|---|---|
//! | `GDT` | [`page_tables`] | flat code and data segments, a task state segment |
//! | `ZERO_PAGE` | `zero_page` or `pvh` | `struct boot_params`, or `hvm_start_info` and its lists |
//! | `PAGE_TABLES` | [`page_tables`] | the first 4 GiB mapped to themselves |
//! | `CMDLINE` | `cmdline` | the command line, NUL-terminated |
//! | `ACPI_START` | [`acpi`] | RSDP first, the other tables after it |
//! | the last 16 bytes below 1 MiB | `reset_vector` | code that resets the machine |
//! | `KERNEL_START` (bzImage), or as its headers say (ELF) | `kernel` | the kernel |
//! | as high as it may be below 3 GiB | `initrd` | the initramfs |
//!
//! The boot protocol is Linux's 64-bit one (`Documentation/arch/x86/boot.rst`, "64-bit Boot Protocol"). An ELF file
//! that has no 64-bit physical entry point, but a PVH note, is started by the PVH protocol.
#![forbid(unsafe_code)]

pub mod acpi;
mod cmdline;
mod file;
#[cfg(test)]
mod fixture;
mod initrd;
mod kernel;
mod load;
mod memory_map;
mod numa;
pub mod page_tables;
mod power;
mod pvh;
mod reset_vector;
mod zero_page;

pub use acpi::AcpiError;
pub use cmdline::CmdlineError;
pub use initrd::InitrdError;
pub use kernel::KernelError;
pub use load::{BootPlatform, BootSpec, Entry, EntryMode, LoadError, check, load, ranges};
pub use numa::GuestNuma;
