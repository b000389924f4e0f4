//! Disk images: what a disk device reads and writes.

use std::fmt;
use std::io;

pub use memory::transfer::Piece;

mod raw;
pub mod space;

pub use raw::RawImage;

/// Bytes of a sector: every offset and length of an image is a multiple of it.
pub const SECTOR: u64 = 512;

/// An open image. One thread has it, so a format may keep what it likes.
///
/// Callers keep ranges inside [`DiskImage::size`] and whole sectors.
pub trait DiskImage: Send + fmt::Debug {
    /// Its size in bytes, a multiple of [`SECTOR`]; constant.
    fn size(&self) -> u64;

    /// Fills `pieces` with what is at `offset`.
    ///
    /// # Errors
    /// What the host says; some of the pieces may be filled then.
    fn read(&mut self, offset: u64, pieces: &[Piece<'_>]) -> io::Result<()>;

    /// Writes `pieces` to `offset`. They are safe from a loss of power only after [`DiskImage::flush`].
    ///
    /// # Errors
    /// What the host says; some of the pieces may be written then.
    fn write(&mut self, offset: u64, pieces: &[Piece<'_>]) -> io::Result<()>;

    /// Returns when everything written before is on stable storage.
    ///
    /// # Errors
    /// What the host says; what was written may then be lost.
    fn flush(&mut self) -> io::Result<()>;

    /// Gives the host back the space of a range, where it can be done; what is read there afterwards is undefined.
    ///
    /// # Errors
    /// What the host says, but for one that does not do such a thing.
    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()>;

    /// Makes a range read as zeros; with `unmap` its space may go back to the host.
    ///
    /// # Errors
    /// What the host says.
    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()>;
}
