//! Images without a format: the file is the disk.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use memory::transfer::{self, Piece};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{DiskImage, SECTOR};

/// Zeros to write where the file system makes none by itself.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A file or block device as a disk.
#[derive(Debug)]
pub struct RawImage {
    file: File,
    size: u64,
}

impl RawImage {
    /// The first `size` bytes of `file`, rounded down to whole sectors.
    #[must_use]
    pub fn new(file: File, size: u64) -> RawImage {
        RawImage {
            file,
            size: size - size % SECTOR,
        }
    }

    /// fallocate(2). Returns whether this file can do it.
    fn allocate(&self, how: FallocateFlags, offset: u64, len: u64) -> io::Result<bool> {
        loop {
            match rustix::fs::fallocate(&self.file, how | FallocateFlags::KEEP_SIZE, offset, len) {
                Ok(()) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::NOSYS) => return Ok(false),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl DiskImage for RawImage {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&mut self, offset: u64, pieces: &[Piece<'_>]) -> io::Result<()> {
        transfer::read_at(self.file.as_fd(), pieces, offset)
    }

    fn write(&mut self, offset: u64, pieces: &[Piece<'_>]) -> io::Result<()> {
        transfer::write_at(self.file.as_fd(), pieces, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.allocate(FallocateFlags::PUNCH_HOLE, offset, len).map(drop)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        if unmap && self.allocate(FallocateFlags::PUNCH_HOLE, offset, len)? {
            return Ok(());
        }
        if self.allocate(FallocateFlags::ZERO_RANGE, offset, len)? {
            return Ok(());
        }
        let mut at = offset;
        while at < offset + len {
            let part = (offset + len - at).min(ZEROS.len() as u64);
            self.file
                .write_all_at(&ZEROS[..usize::try_from(part).unwrap_or(ZEROS.len())], at)?;
            at += part;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
