//! Space of a file: given back, or made to read as zeros.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// Zeros to write where nothing makes them by itself.
pub static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Gives the space of a range back to the file system; the file keeps its length. Returns whether that can be done.
///
/// # Errors
/// Those of fallocate(2), but for one that knows no holes.
pub fn punch(file: &File, offset: u64, len: u64) -> io::Result<bool> {
    allocate(file, FallocateFlags::PUNCH_HOLE, offset, len)
}

/// Makes a range read as zeros; with `unmap` its space may go. The file may stay shorter than the range.
///
/// # Errors
/// Those of fallocate(2) and of pwrite(2).
pub fn zero(file: &File, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
    if unmap && punch(file, offset, len)? {
        return Ok(());
    }
    if allocate(file, FallocateFlags::ZERO_RANGE, offset, len)? {
        return Ok(());
    }
    let mut at = offset;
    while at < offset + len {
        let part = (offset + len - at).min(ZEROS.len() as u64);
        file.write_all_at(&ZEROS[..usize::try_from(part).unwrap_or(ZEROS.len())], at)?;
        at += part;
    }
    Ok(())
}

/// fallocate(2). Returns whether this file can do it.
fn allocate(file: &File, how: FallocateFlags, offset: u64, len: u64) -> io::Result<bool> {
    loop {
        match rustix::fs::fallocate(file, how | FallocateFlags::KEEP_SIZE, offset, len) {
            Ok(()) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(Errno::OPNOTSUPP | Errno::NODEV | Errno::NOSYS) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}
