//! Opening the files that the user names, and copying them into guest RAM.

use std::fs::{File, metadata};
use std::io;
use std::path::Path;

use memory::PageSize;
use vm_memory::{Bytes, GuestAddress, GuestMemoryError, GuestMemoryMmap};

/// An open regular file and its size in bytes.
///
/// Only regular files: opening a pipe could wait for ever, and the size of anything else is not known beforehand.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    if !metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}

/// Copies the next `len` bytes of `file` to guest `address`; a file that has shrunk meanwhile is an error.
///
/// Each page is touched before: where a page of guest memory is missing, the kernel that copies says `EFAULT`, and the copy is
/// over; who touches it gets a signal, and can wait for it.
pub(crate) fn copy(
    file: &mut File,
    len: u64,
    memory: &GuestMemoryMmap<()>,
    address: u64,
) -> Result<(), GuestMemoryError> {
    let page = PageSize::BASE.bytes();
    let mut next = address;
    let end = address.saturating_add(len);
    while next < end {
        memory.write_obj(0_u8, GuestAddress(next))?;
        next = (next / page + 1).saturating_mul(page);
    }
    let len = usize::try_from(len).map_err(|_| GuestMemoryError::GuestAddressOverflow)?;
    memory.read_exact_volatile_from(GuestAddress(address), file, len)
}
