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
const ATTEMPTS: u32 = 16;
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

/// Most pieces of one [`send`].
pub const MAX_SENT_PIECES: usize = MAX_PIECES;

/// Writes `pieces`, at most [`MAX_SENT_PIECES`], as one packet into `file`, which has no offsets (writev(2)). Missing pages as in
/// [`read_at`].
///
/// # Errors
/// What the system says; `WriteZero` where it took a part only, `InvalidInput` for too many pieces.
pub fn send(file: BorrowedFd<'_>, pieces: &[Piece<'_>]) -> io::Result<()> {
    if pieces.len() > MAX_SENT_PIECES {
        return Err(ErrorKind::InvalidInput.into());
    }
    let len: usize = pieces.iter().map(Piece::len).sum();
    let mut attempts = 0;
    loop {
        match sys::transfer(Transfer::Send, file, pieces.iter().copied()) {
            Ok(sent) if sent == len => return Ok(()),
            Ok(_) => return Err(ErrorKind::WriteZero.into()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => retry(error, pieces, &mut attempts)?,
        }
    }
}

/// Sees to pages that were missing, a bounded number of times; anything else is the caller's.
fn retry(error: io::Error, pieces: &[Piece<'_>], attempts: &mut u32) -> io::Result<()> {
    if error.raw_os_error() != Some(Errno::FAULT.raw_os_error()) || *attempts == ATTEMPTS {
        return Err(error);
    }
    *attempts += 1;
    touch(pieces);
    Ok(())
}

fn all(
    way: fn(u64) -> Transfer,
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
        match sys::transfer(way(offset), file, std::iter::once(first).chain(rest)) {
            Ok(0) => return Err(end.into()),
            Ok(moved) => {
                offset += moved as u64;
                done += moved;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => retry(error, pieces, &mut attempts)?,
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
