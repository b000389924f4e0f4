//! Between files and guest memory, without a copy in between.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use vm_memory::{Bytes, VolatileSlice};

use crate::sys::{self, MAX_PIECES, Transfer};

/// A piece of guest memory, as [`vm_memory`] finds it behind guest addresses.
pub type Piece<'a> = VolatileSlice<'a>;

/// How often pages that were missing are asked for in one transfer; a guest that gives its pages away again and again has to
/// do without its bytes.
const ATTEMPTS: usize = 16;
/// The least page that there is.
const PAGE: usize = 4096;

/// Fills `pieces`, in their order, with the bytes of `file` from `offset` on (preadv(2)).
///
/// Where the host lacks a page of guest memory, the calling thread touches it, so that it waits as any thread of ours does, and
/// then tries again.
///
/// # Errors
/// What the system says; `UnexpectedEof` where the file ends before the pieces do.
pub fn read_at(file: BorrowedFd<'_>, pieces: &[Piece<'_>], offset: u64) -> io::Result<()> {
    all(Transfer::Read, file, pieces, offset, ErrorKind::UnexpectedEof)
}

/// Writes `pieces`, in their order, into `file` from `offset` on (pwritev(2)). As [`read_at`] otherwise.
///
/// # Errors
/// What the system says; `WriteZero` where the file takes no more.
pub fn write_at(file: BorrowedFd<'_>, pieces: &[Piece<'_>], offset: u64) -> io::Result<()> {
    all(Transfer::Write, file, pieces, offset, ErrorKind::WriteZero)
}

fn all(
    way: Transfer,
    file: BorrowedFd<'_>,
    mut pieces: &[Piece<'_>],
    mut offset: u64,
    end: ErrorKind,
) -> io::Result<()> {
    // Bytes that are done, counted from the start of the first piece.
    let mut done = 0;
    let mut attempts = 0;
    loop {
        while let Some((first, rest)) = pieces.split_first()
            && done >= first.len()
        {
            done -= first.len();
            pieces = rest;
        }
        let Some(first) = pieces.first() else {
            return Ok(());
        };
        let first = first.offset(done).map_err(io::Error::other)?;
        let rest = pieces.iter().skip(1).take(MAX_PIECES - 1).copied();
        match sys::transfer(way, file, std::iter::once(first).chain(rest), offset) {
            Ok(0) => return Err(end.into()),
            Ok(moved) => {
                offset += moved as u64;
                done += moved;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error)
                if error.raw_os_error() == Some(Errno::FAULT.raw_os_error()) && attempts < ATTEMPTS =>
            {
                attempts += 1;
                touch(pieces);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Reads a byte of each page.
fn touch(pieces: &[Piece<'_>]) {
    for piece in pieces {
        for offset in (0..piece.len()).step_by(PAGE) {
            let _ = piece.read_obj::<u8>(offset);
        }
        // A piece may begin within a page, and end in one more.
        let _ = piece.len().checked_sub(1).map(|last| piece.read_obj::<u8>(last));
    }
}

#[cfg(test)]
mod tests;
