//! The order of work: look at everything, find room for everything, then write.

use std::path::PathBuf;

use memory::layout::{ACPI_START, CMDLINE, HOLE_START, ZERO_PAGE};
use memory::{ByteSize, GuestRange, Ram};
use thiserror::Error;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

use crate::acpi::{self, AcpiError};
use crate::cmdline::{self, CmdlineError};
use crate::initrd::{Initrd, InitrdError};
use crate::kernel::{Kernel, KernelEntry, KernelError};
use crate::memory_map::memory_map;
use crate::numa::GuestNuma;
use crate::reset_vector::{self, RESET_VECTOR};
use crate::{page_tables, pvh, zero_page};

/// What the user wants to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootSpec {
    /// A bzImage, or an ELF vmlinux.
    pub kernel: PathBuf,
    /// An initramfs, in any form that the kernel understands: its bytes are not looked at.
    pub initrd: Option<PathBuf>,
    /// The kernel's command line; nothing is added to it.
    pub cmdline: String,
}

/// What the kernel has to be told of the machine that it runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootPlatform {
    /// The APIC id of each vCPU, in the order of the vCPUs; the first one is the boot CPU's. Those of places without a vCPU follow.
    pub apic_ids: Vec<u32>,
    /// How many of `apic_ids`, from the first on, have a vCPU; the others are told as CPUs that may come.
    pub vcpus: usize,
    /// Width of a guest-physical address in bits, as the guest's CPUID says it.
    pub phys_bits: u8,
    /// Where 64-bit PCI BARs may be put, if anywhere. Lies above all RAM and below `1 << phys_bits`.
    pub pci64_window: Option<GuestRange>,
    /// The NUMA nodes; `None`: the guest does not hear of nodes, and has one.
    pub numa: Option<GuestNuma>,
}

/// How the boot CPU starts. Its selectors are in [`page_tables`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Guest-physical address of the first instruction.
    pub rip: u64,
    /// Guest-physical address of `struct boot_params`; 0 with [`EntryMode::Pvh`].
    pub rsi: u64,
    /// Guest-physical address of the top-level page table; 0 with [`EntryMode::Pvh`], which starts without paging.
    pub cr3: u64,
    /// Guest-physical address of the descriptor table.
    pub gdt: u64,
    /// Limit of the descriptor table: its size in bytes less one.
    pub gdt_limit: u16,
    /// Which CPU mode the kernel expects.
    pub mode: EntryMode,
}

/// The CPU mode that a kernel is entered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryMode {
    /// Linux's 64-bit boot protocol: long mode, paging by [`Entry::cr3`], interrupts off.
    Linux64,
    /// The PVH protocol: 32-bit protected mode, no paging, interrupts off.
    Pvh {
        /// Guest-physical address of `struct hvm_start_info`, for the register EBX.
        rbx: u64,
    },
}

/// Why a kernel cannot be booted.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The kernel was refused, or could not be copied.
    #[error("cannot boot kernel '{}'", path.display())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: KernelError,
    },
    /// The initramfs was refused, or could not be copied.
    #[error("cannot use initramfs '{}'", path.display())]
    Initrd {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: InitrdError,
    },
    /// The command line was refused.
    #[error("cannot use this kernel command line")]
    Cmdline(#[from] CmdlineError),
    /// The ACPI tables cannot describe this machine.
    #[error("cannot describe the machine to the guest")]
    DescribeMachine(#[from] AcpiError),
    /// Guest RAM or the PCI window reaches beyond the guest's physical addresses.
    #[error("{what} ends at {end:#x}, but a physical address of this guest has {phys_bits} bits")]
    AddressWidth {
        /// What is too high.
        what: &'static str,
        /// Its end, exclusive.
        end: u64,
        /// The width of an address.
        phys_bits: u8,
    },
    /// A boot structure could not be written.
    #[error("cannot write the {what} at guest address {address:#x}")]
    Write {
        /// Which structure.
        what: &'static str,
        /// Where it should go.
        address: u64,
        /// What guest memory says.
        source: GuestMemoryError,
    },
}

/// All that [`check()`] and [`load()`] find out before anything is written.
struct Plan {
    kernel: Kernel,
    /// The initramfs and the guest address that it goes to.
    initrd: Option<(Initrd, u64)>,
}

impl Plan {
    /// Opens the files and finds room for them in the RAM that begins at 0 and ends at `low_end`.
    fn new(spec: &BootSpec, low_end: u64) -> Result<Plan, LoadError> {
        let kernel_error = |source| LoadError::Kernel {
            path: spec.kernel.clone(),
            source,
        };
        let kernel = Kernel::open(&spec.kernel).map_err(kernel_error)?;
        kernel.check_room(low_end).map_err(kernel_error)?;
        cmdline::check(&spec.cmdline, kernel.cmdline_limit())?;
        let initrd = match &spec.initrd {
            None => None,
            Some(path) => {
                let initrd_error = |source| LoadError::Initrd {
                    path: path.clone(),
                    source,
                };
                let initrd = Initrd::open(path).map_err(initrd_error)?;
                let top = low_end.min(kernel.initrd_top());
                let address = initrd.place(kernel.end(), top).map_err(initrd_error)?;
                Some((initrd, address))
            }
        };
        Ok(Plan { kernel, initrd })
    }
}

/// Refuses everything that can be refused before guest RAM is taken: a kernel that is missing or none, a kernel or
/// an initramfs that does not fit into `ram_size`, a command line that is too long.
///
/// # Errors
///
/// The first thing that is wrong, with the file and the numbers. When this succeeds, [`load()`] fails only if a file
/// changes or cannot be read in between.
pub fn check(spec: &BootSpec, ram_size: ByteSize) -> Result<(), LoadError> {
    Plan::new(spec, ram_size.bytes().min(HOLE_START)).map(|_| ())
}

/// Where [`load()`] puts kernel and initramfs: all that it writes above 1 MiB.
///
/// # Errors
///
/// As [`check()`].
pub fn ranges(ram: &Ram, spec: &BootSpec) -> Result<Vec<GuestRange>, LoadError> {
    ranges_in(&regions(ram), spec)
}

fn ranges_in(regions: &[GuestRange], spec: &BootSpec) -> Result<Vec<GuestRange>, LoadError> {
    let plan = Plan::new(spec, low_end(regions))?;
    let initrd = plan.initrd.iter();
    let initrd = initrd.map(|(initrd, address)| GuestRange::new(GuestAddress(*address), initrd.len()));
    Ok(plan.kernel.ranges().into_iter().chain(initrd).collect())
}

/// Puts kernel, initramfs, command line, memory map, ACPI tables, page tables and descriptor table into `ram`.
///
/// # Errors
///
/// As [`check()`]; besides, a read error of one of the files, and a machine that the tables cannot describe.
pub fn load(ram: &Ram, spec: &BootSpec, platform: &BootPlatform) -> Result<Entry, LoadError> {
    load_into(ram.memory(), &regions(ram), spec, platform)
}

fn regions(ram: &Ram) -> Vec<GuestRange> {
    ram.regions().iter().map(|region| region.guest()).collect()
}

/// [`load()`] on plain guest memory.
fn load_into(
    memory: &GuestMemoryMmap<()>,
    regions: &[GuestRange],
    spec: &BootSpec,
    platform: &BootPlatform,
) -> Result<Entry, LoadError> {
    check_width(regions, platform)?;
    let tables = acpi::build(platform)?;
    let mut plan = Plan::new(spec, low_end(regions))?;

    plan.kernel.load(memory).map_err(|source| LoadError::Kernel {
        path: spec.kernel.clone(),
        source,
    })?;
    let mut initrd_range = None;
    if let (Some((initrd, address)), Some(path)) = (&mut plan.initrd, &spec.initrd) {
        initrd
            .load(memory, *address)
            .map_err(|source| LoadError::Initrd {
                path: path.clone(),
                source,
            })?;
        initrd_range = Some(GuestRange {
            start: GuestAddress(*address),
            len: initrd.len(),
        });
    }

    let cmdline = cmdline::with_nul(&spec.cmdline);
    write(memory, "command line", CMDLINE, &cmdline)?;
    write(memory, "ACPI tables", ACPI_START, &tables)?;
    write(memory, "reset vector", RESET_VECTOR, &reset_vector::code())?;
    let map = memory_map(regions);
    let gdt = page_tables::descriptor_table(plan.kernel.entry());
    write(memory, "descriptor table", memory::layout::GDT, &gdt)?;

    let mut entry = Entry {
        rip: 0,
        rsi: 0,
        cr3: 0,
        gdt: memory::layout::GDT,
        gdt_limit: page_tables::GDT_LIMIT,
        mode: EntryMode::Linux64,
    };
    match plan.kernel.entry() {
        KernelEntry::Linux64 { rip } => {
            let zero_page = zero_page::build(plan.kernel.setup_header(), initrd_range, &map);
            write(memory, "zero page", ZERO_PAGE, &zero_page)?;
            write(
                memory,
                "page tables",
                memory::layout::PAGE_TABLES,
                &page_tables::identity_map(),
            )?;
            entry.rip = rip;
            entry.rsi = ZERO_PAGE;
            entry.cr3 = memory::layout::PAGE_TABLES;
        }
        KernelEntry::Pvh { rip } => {
            let start_info = pvh::build(initrd_range, &map);
            write(memory, "PVH start info", ZERO_PAGE, &start_info)?;
            entry.rip = rip;
            entry.mode = EntryMode::Pvh { rbx: ZERO_PAGE };
        }
    }
    tracing::debug!(
        ?entry,
        kernel_end = plan.kernel.end(),
        ?initrd_range,
        "kernel loaded"
    );
    Ok(entry)
}

/// The end of the RAM that begins at 0, at most [`HOLE_START`]: where kernel and initramfs can be.
fn low_end(regions: &[GuestRange]) -> u64 {
    let below = regions
        .iter()
        .filter(|region| region.start.raw_value() < HOLE_START);
    below.map(GuestRange::end).max().unwrap_or(0).min(HOLE_START)
}

/// No RAM and no PCI window where the guest's CPUs cannot reach it.
fn check_width(regions: &[GuestRange], platform: &BootPlatform) -> Result<(), LoadError> {
    let limit = 1u64.checked_shl(platform.phys_bits.into()).unwrap_or(u64::MAX);
    let ram = regions.iter().map(|region| ("guest RAM", region.end()));
    let window = platform
        .pci64_window
        .iter()
        .map(|window| ("the 64-bit PCI window", window.end()));
    for (what, end) in ram.chain(window) {
        if end > limit {
            return Err(LoadError::AddressWidth {
                what,
                end,
                phys_bits: platform.phys_bits,
            });
        }
    }
    Ok(())
}

fn write(
    memory: &GuestMemoryMmap<()>,
    what: &'static str,
    address: u64,
    bytes: &[u8],
) -> Result<(), LoadError> {
    memory
        .write_slice(bytes, GuestAddress(address))
        .map_err(|source| LoadError::Write {
            what,
            address,
            source,
        })
}

#[cfg(test)]
mod tests;
