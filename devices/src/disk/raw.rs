//! Images without a format: the file is the disk.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use memory::transfer::{self, Piece};

use super::{DiskImage, SECTOR, space};

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
        space::punch(&self.file, offset, len).map(drop)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        space::zero(&self.file, offset, len, unmap)
    }
}

#[cfg(test)]
mod tests;
