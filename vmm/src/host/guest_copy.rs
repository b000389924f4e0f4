//! Reading and writing guest memory that may be missing, with an error instead of SIGBUS.
//!
//! For the one thread that must not wait in the handler of [`super::bus_error`]: a vCPU's, which has to stop with the machine.

use std::io;

use memory::ram::Ram;
use vm_memory::GuestAddress;

/// Reads guest memory at `address` into `data`.
///
/// # Errors
/// `EFAULT` when the host cannot supply a page of it now, or when it is not inside one piece of guest memory.
pub fn read(ram: &Ram, address: GuestAddress, data: &mut [u8]) -> io::Result<()> {
    let remote = remote(ram, address, data.len())?;
    let local = libc::iovec {
        iov_base: data.as_mut_ptr().cast(),
        iov_len: data.len(),
    };
    // SAFETY: the kernel writes at most data.len() bytes to `data`, which is borrowed for that, and fails where the other
    // side cannot be read (process_vm_readv(2)).
    let copied =
        unsafe { libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
    whole(copied, data.len())
}

/// Writes `data` to guest memory at `address`.
///
/// # Errors
/// As [`read`].
pub fn write(ram: &Ram, address: GuestAddress, data: &[u8]) -> io::Result<()> {
    let remote = remote(ram, address, data.len())?;
    let local = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    // SAFETY: the kernel reads `data`, and writes to guest memory only, whose users expect any change at any time.
    let copied =
        unsafe { libc::process_vm_writev(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0) };
    whole(copied, data.len())
}

fn fault() -> io::Error {
    io::Error::from_raw_os_error(libc::EFAULT)
}

/// Where the bytes are in this process.
fn remote(ram: &Ram, address: GuestAddress, length: usize) -> io::Result<libc::iovec> {
    let region = ram.region_at(address).ok_or_else(fault)?;
    let offset = address.0 - region.guest().start.0;
    let fits = u64::try_from(length).is_ok_and(|length| length <= region.guest().len - offset);
    let start = usize::try_from(region.host_address() + offset).map_err(|_| fault())?;
    if !fits {
        return Err(fault());
    }
    Ok(libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(start),
        iov_len: length,
    })
}

fn whole(copied: isize, length: usize) -> io::Result<()> {
    match usize::try_from(copied) {
        Ok(copied) if copied == length => Ok(()),
        Ok(_) => Err(fault()),
        Err(_) => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests;
