//! Giving many pieces of one mapping back with few system calls. What backends have in common; which advice is right is
//! theirs to say.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::OnceLock;

use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::backend::Released;
use crate::mapping::{Advice, MapRequest, Mapping, Span};
use crate::size::{ByteSize, PageSize};

/// Most pieces of one process_madvise(2) call (`UIO_MAXIOV`).
const MAX_PIECES: usize = 1024;
/// Most bytes of one process_madvise(2) call: the kernel cuts longer lists (`MAX_RW_COUNT`).
const MAX_BYTES: u64 = (2 << 30) - 4096;
/// Longer pieces are cut to this, a multiple of every page size.
const MAX_PIECE: u64 = 1 << 30;

/// Whether process_madvise(2) takes an advice for this process: Linux 6.13 and later do for those that free pages, earlier
/// ones answer `EINVAL`. Found out by trying on a page of our own, once for each advice.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    dont_need: OnceLock<Option<OwnedFd>>,
    remove: OnceLock<Option<OwnedFd>>,
}

impl Batch {
    /// The descriptor to give to the call, if the kernel takes `advice`.
    fn pidfd(&self, advice: Advice) -> Option<&OwnedFd> {
        let known = match advice {
            Advice::DontNeed => &self.dont_need,
            Advice::Remove => &self.remove,
            Advice::PopulateWrite
            | Advice::HugePage
            | Advice::NoHugePage
            | Advice::Mergeable
            | Advice::DontDump
            | Advice::DontFork => return None,
        };
        known.get_or_init(|| probe(advice).ok()).as_ref()
    }
}

/// Gives back one page of our own.
fn probe(advice: Advice) -> io::Result<OwnedFd> {
    let memfd = rustix::fs::memfd_create(c"ballast-probe", rustix::fs::MemfdFlags::CLOEXEC)?;
    rustix::fs::ftruncate(&memfd, PageSize::BASE.bytes())?;
    let mapping = Mapping::new(&MapRequest {
        size: PageSize::BASE.size(),
        page: PageSize::BASE,
        guest_start: 0,
        file: (advice == Advice::Remove).then(|| memfd.as_fd()),
        reserve: false,
    })?;
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty())?;
    mapping.advise_many(pidfd.as_fd(), &[mapping.whole()], advice)?;
    Ok(pidfd)
}

/// Gives `advice` for the whole pages inside `spans`, which are sorted and apart from each other. What lies outside whole
/// pages never reaches the kernel: on hugetlb it would be zeroed, not freed.
pub(crate) fn whole_pages(mapping: &Mapping, spans: &[Span], page: PageSize, advice: Advice) -> Released {
    let mut pieces = Vec::with_capacity(spans.len());
    let mut asked = 0;
    for span in spans {
        asked += span.len;
        let start = page.ceil(span.offset).unwrap_or(u64::MAX);
        let end = page.floor(span.end());
        let mut next = start;
        while next < end {
            let len = MAX_PIECE.min(end - next);
            pieces.push(Span { offset: next, len });
            next += len;
        }
    }
    if !page.is_huge() {
        pieces.iter().for_each(|piece| mapping.before_release(*piece));
    }
    let whole: u64 = pieces.iter().map(|piece| piece.len).sum();
    let discarded = match mapping.batch().pidfd(advice) {
        Some(pidfd) if pieces.len() > 1 => {
            let call = |pieces: &[Span]| mapping.advise_many(pidfd.as_fd(), pieces, advice);
            in_batches(&mut pieces, call, |piece| alone(mapping, piece, advice))
        }
        _ => pieces.iter().map(|piece| alone(mapping, *piece, advice)).sum(),
    };
    Released {
        discarded,
        failed: whole.saturating_sub(discarded),
        rounded: asked - whole,
        ..Released::default()
    }
}

/// Bytes discarded: all of the piece or none.
fn alone(mapping: &Mapping, piece: Span, advice: Advice) -> u64 {
    loop {
        match mapping.advise(piece, advice) {
            Ok(()) => return piece.len,
            // A signal came before the kernel began.
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) => {
                tracing::debug!(?piece, ?advice, %error, "memory not given back");
                return 0;
            }
        }
    }
}

/// Calls `many` until all pieces are done, going on where a short call stopped. A piece that it refuses is tried with `one`.
/// Returns the bytes discarded.
fn in_batches(
    pieces: &mut [Span],
    mut many: impl FnMut(&[Span]) -> io::Result<u64>,
    mut one: impl FnMut(Span) -> u64,
) -> u64 {
    let mut discarded = 0;
    let mut done = 0;
    while let Some(rest) = pieces.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let batch = first_batch(rest);
        match many(&rest[..batch]) {
            Ok(bytes) if bytes > 0 => {
                discarded += bytes;
                done += skip(&mut rest[..batch], bytes);
            }
            Ok(_) | Err(_) => {
                discarded += one(rest[0]);
                done += 1;
            }
        }
    }
    discarded
}

/// How many of the first pieces fit into one call; at least one.
fn first_batch(pieces: &[Span]) -> usize {
    let mut bytes = 0;
    let fitting = pieces.iter().take(MAX_PIECES).take_while(|piece| {
        bytes += piece.len;
        bytes <= MAX_BYTES
    });
    fitting.count().max(1)
}

/// Cuts `bytes` off the front of the pieces and returns how many of them are done.
fn skip(pieces: &mut [Span], mut bytes: u64) -> usize {
    for (index, piece) in pieces.iter_mut().enumerate() {
        if bytes < piece.len {
            piece.offset += bytes;
            piece.len -= bytes;
            return index;
        }
        bytes -= piece.len;
    }
    pieces.len()
}

/// Sorts pieces and joins those that touch or overlap.
pub(crate) fn merge(spans: &mut Vec<Span>) {
    spans.sort_unstable();
    spans.dedup_by(|next, last| {
        let joins = next.offset <= last.end();
        if joins {
            last.len = last.end().max(next.end()) - last.offset;
        }
        joins
    });
}

/// The size of a file in the blocks that the host holds for it (stat(2), `st_blocks`).
pub(crate) fn held_by(file: impl AsFd) -> io::Result<ByteSize> {
    let blocks = rustix::fs::fstat(file)?.st_blocks;
    Ok(ByteSize::from_bytes(
        u64::try_from(blocks).unwrap_or(0).saturating_mul(512),
    ))
}

#[cfg(test)]
mod tests;
