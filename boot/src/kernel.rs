//! The kernel file: what it is, what it needs, and its way into guest RAM.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use linux_loader::loader::bootparam::setup_header;
use memory::{ByteSize, GuestRange};
use thiserror::Error;
use vm_memory::GuestMemoryMmap;

use crate::file;

mod bzimage;
mod elf;
mod magic;

use bzimage::BzImage;
use elf::Elf;

/// Why a file was refused as a kernel.
#[derive(Debug, Error)]
pub enum KernelError {
    /// The file cannot be opened.
    #[error("cannot open it")]
    Open(#[source] io::Error),
    /// The file cannot be read.
    #[error("cannot read it")]
    Read(#[source] io::Error),
    /// The file is something else.
    #[error("it is {found}, not a bzImage or an ELF vmlinux for x86-64")]
    Recognise {
        /// What it looks like, with its article.
        found: &'static str,
    },
    /// A kernel from before the 64-bit boot protocol.
    #[error("it speaks boot protocol {major}.{minor:02}; 2.12 (Linux 3.8) or later is needed")]
    Protocol {
        /// The number before the point.
        major: u8,
        /// The number behind it.
        minor: u8,
    },
    /// A bzImage without a 64-bit entry point.
    #[error("it is a 32-bit kernel: it has no 64-bit entry point")]
    FindEntry64,
    /// An ELF file that can be started in no way that we know.
    #[error(
        "its entry point {entry:#x} is not a physical address in its segments, and it has no usable PVH note"
    )]
    FindEntry {
        /// `e_entry`.
        entry: u64,
    },
    /// The file is shorter than its headers say.
    #[error("it is cut off: its headers speak of {needed} bytes, the file has {size}")]
    Truncated {
        /// What the headers say.
        needed: u64,
        /// Size of the file.
        size: u64,
    },
    /// A header field has a value that cannot be.
    #[error("its headers are damaged: {field} is {value:#x}")]
    Header {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// The guest's RAM is too small.
    #[error("it needs guest RAM up to {needed} (it says so in its headers), the guest has {ram} below 3 GiB")]
    FindRoom {
        /// Where the kernel ends once it is unpacked, in whole MiB.
        needed: ByteSize,
        /// The end of the RAM that begins at 0.
        ram: ByteSize,
    },
    /// A part of the kernel could not be copied into guest RAM.
    #[error("cannot copy it into guest RAM at {address:#x}")]
    Copy {
        /// Where the part should go.
        address: u64,
        /// What guest memory says.
        source: vm_memory::GuestMemoryError,
    },
    /// The memory behind a segment that the file has no bytes for could not be cleared.
    #[error("cannot clear guest RAM at {address:#x}")]
    Clear {
        /// The first byte that could not be cleared.
        address: u64,
        /// What guest memory says.
        source: vm_memory::GuestMemoryError,
    },
}

/// How a kernel wants to be entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelEntry {
    /// By Linux's 64-bit boot protocol.
    Linux64 { rip: u64 },
    /// By PVH.
    Pvh { rip: u64 },
}

/// A kernel file that was looked at, not yet loaded.
#[derive(Debug)]
pub(crate) struct Kernel {
    file: File,
    image: Image,
}

#[derive(Debug)]
enum Image {
    BzImage(BzImage),
    Elf(Elf),
}

/// Enough of a file's beginning for every magic number and for the setup header of a bzImage.
const HEAD_SIZE: u64 = 4096;
const MIB: u64 = 1 << 20;

impl Kernel {
    /// Opens the file and reads its headers; every field that is used later is checked here.
    pub(crate) fn open(path: &Path) -> Result<Kernel, KernelError> {
        let (mut file, size) = file::open(path).map_err(KernelError::Open)?;
        let mut head = Vec::new();
        (&mut file)
            .take(HEAD_SIZE)
            .read_to_end(&mut head)
            .map_err(KernelError::Read)?;
        let image = if elf::is_elf(&head) {
            Image::Elf(Elf::read(&mut file, size)?)
        } else if bzimage::is_bzimage(&head) {
            Image::BzImage(BzImage::read(&head, size)?)
        } else {
            return Err(KernelError::Recognise {
                found: magic::describe(&head),
            });
        };
        Ok(Kernel { file, image })
    }

    /// Refuses a kernel that does not fit into the RAM from 0 to `low_end`.
    pub(crate) fn check_room(&self, low_end: u64) -> Result<(), KernelError> {
        if self.end() <= low_end {
            return Ok(());
        }
        Err(KernelError::FindRoom {
            needed: ByteSize::from_bytes(self.end().checked_next_multiple_of(MIB).unwrap_or(u64::MAX)),
            ram: ByteSize::from_bytes(low_end),
        })
    }

    /// The first guest address behind the kernel, once it has unpacked itself: other things lie above it.
    pub(crate) fn end(&self) -> u64 {
        match &self.image {
            Image::BzImage(image) => image.end(),
            Image::Elf(image) => image.end(),
        }
    }

    /// The longest command line that it reads, in bytes without the final NUL.
    pub(crate) fn cmdline_limit(&self) -> u64 {
        match &self.image {
            Image::BzImage(image) => image.cmdline_limit(),
            Image::Elf(_) => elf::CMDLINE_LIMIT,
        }
    }

    /// The address that an initramfs must end at or below.
    pub(crate) fn initrd_top(&self) -> u64 {
        match &self.image {
            Image::BzImage(image) => image.initrd_top(),
            Image::Elf(_) => elf::INITRD_TOP,
        }
    }

    /// The setup header of a bzImage, for the zero page.
    pub(crate) fn setup_header(&self) -> Option<setup_header> {
        match &self.image {
            Image::BzImage(image) => Some(image.setup_header()),
            Image::Elf(_) => None,
        }
    }

    /// Where and how it starts.
    pub(crate) fn entry(&self) -> KernelEntry {
        match &self.image {
            Image::BzImage(image) => KernelEntry::Linux64 { rip: image.entry() },
            Image::Elf(image) => image.entry(),
        }
    }

    /// Where [`Kernel::load`] writes.
    pub(crate) fn ranges(&self) -> Vec<GuestRange> {
        match &self.image {
            Image::BzImage(image) => vec![image.range()],
            Image::Elf(image) => image.ranges(),
        }
    }

    /// Copies it into guest RAM. [`Kernel::check_room`] has succeeded.
    pub(crate) fn load(&mut self, memory: &GuestMemoryMmap<()>) -> Result<(), KernelError> {
        match &self.image {
            Image::BzImage(image) => image.load(&mut self.file, memory),
            Image::Elf(image) => image.load(&mut self.file, memory),
        }
    }
}

/// Bytes of the kernel's file that go to one place in guest RAM.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// Where they begin in the file.
    offset: u64,
    len: u64,
    /// The guest address that they go to.
    start: u64,
}

impl Part {
    /// Copies them. That they are in the file and that there is RAM for them was checked.
    fn copy(&self, file: &mut File, memory: &GuestMemoryMmap<()>) -> Result<(), KernelError> {
        if self.len == 0 {
            return Ok(());
        }
        file.seek(SeekFrom::Start(self.offset))
            .map_err(KernelError::Read)?;
        file::copy(file, self.len, memory, self.start).map_err(|source| KernelError::Copy {
            address: self.start,
            source,
        })
    }
}

#[cfg(test)]
mod tests;
