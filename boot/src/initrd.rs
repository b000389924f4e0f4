//! The initramfs: as high in low memory as the kernel allows, so that the kernel has room to unpack itself.

use std::fs::File;
use std::io;
use std::path::Path;

use memory::{ByteSize, PageSize};
use thiserror::Error;
use vm_memory::{GuestMemoryError, GuestMemoryMmap};

use crate::file;

/// Why an initramfs was refused.
#[derive(Debug, Error)]
pub enum InitrdError {
    /// The file cannot be opened.
    #[error("cannot open it")]
    Open(#[source] io::Error),
    /// The file has no bytes.
    #[error("it is empty")]
    Empty,
    /// There is no room for it.
    #[error(
        "it has {size}, but guest RAM has room for {room} between the kernel's end at {kernel_end:#x} and {top:#x}: \
         give the guest more memory or use a smaller initramfs"
    )]
    Place {
        /// Its size.
        size: ByteSize,
        /// The room for it, in whole pages.
        room: ByteSize,
        /// Where the kernel ends once it is unpacked.
        kernel_end: u64,
        /// The lower of the end of RAM below 3 GiB and the highest address that the kernel allows.
        top: u64,
    },
    /// The file cannot be read into guest RAM.
    #[error("cannot copy it into guest RAM at {address:#x}")]
    Copy {
        /// Where it should go.
        address: u64,
        /// What guest memory says.
        source: GuestMemoryError,
    },
}

/// An initramfs that is open, not yet copied.
#[derive(Debug)]
pub(crate) struct Initrd {
    file: File,
    len: u64,
}

impl Initrd {
    pub(crate) fn open(path: &Path) -> Result<Initrd, InitrdError> {
        let (file, len) = file::open(path).map_err(InitrdError::Open)?;
        if len == 0 {
            return Err(InitrdError::Empty);
        }
        Ok(Initrd { file, len })
    }

    /// Its size in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// The highest page-aligned address at which it lies between `kernel_end` and `top`.
    pub(crate) fn place(&self, kernel_end: u64, top: u64) -> Result<u64, InitrdError> {
        place(self.len, kernel_end, top)
    }

    /// Copies the file to `address`, which [`Initrd::place`] gave.
    pub(crate) fn load(&mut self, memory: &GuestMemoryMmap<()>, address: u64) -> Result<(), InitrdError> {
        file::copy(&mut self.file, self.len, memory, address)
            .map_err(|source| InitrdError::Copy { address, source })
    }
}

fn place(len: u64, kernel_end: u64, top: u64) -> Result<u64, InitrdError> {
    let page = PageSize::BASE.bytes();
    let first = kernel_end.next_multiple_of(page);
    let last = top - top % page;
    match last.checked_sub(len) {
        Some(address) if address - address % page >= first => Ok(address - address % page),
        _ => Err(InitrdError::Place {
            size: ByteSize::from_bytes(len),
            room: ByteSize::from_bytes(last.saturating_sub(first)),
            kernel_end,
            top,
        }),
    }
}

#[cfg(test)]
mod tests;
