//! Giving memory back with few system calls, and taking it again. What backends have in common; which advice is right is
//! theirs to say.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::FallocateFlags;
use rustix::process::{PidfdFlags, getpid, pidfd_open};

use crate::backend::Released;
use crate::mapping::{Advice, MapFile, MapRequest, Mapping, Span};
use crate::ram::Ram;
use crate::range::GuestRange;
use crate::size::{ByteSize, PageSize};
use crate::sys;

/// Most bytes of one process_madvise(2) call: the kernel cuts longer lists (`MAX_RW_COUNT`).
const MAX_BYTES: u64 = (2 << 30) - 4096;

/// Why memory goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The guest gave it to its balloon, and says so before it uses it again.
    Inflated,
    /// The guest does not use it now, and may use it again without a word.
    Reported,
}

/// Gives memory of one [`Ram`] back to the host, again and again: it keeps its buffers, and once they are as large as the
/// largest request nothing is allocated.
#[derive(Debug)]
pub struct Releaser {
    ram: Ram,
    /// For each backend, pieces of it.
    spans: Vec<Vec<Span>>,
    /// For each backend, what the last release discarded.
    discarded: Vec<u64>,
}

impl Releaser {
    /// For `ram`.
    #[must_use]
    pub fn new(ram: Ram) -> Self {
        let backends = ram.backends().len();
        Self {
            ram,
            spans: vec![Vec::new(); backends],
            discarded: vec![0; backends],
        }
    }

    /// Gives `ranges` back; reads give zeroes afterwards.
    ///
    /// The ranges may be anything: what is not RAM is counted and left alone, what touches or overlaps is joined, and only
    /// whole backing pages are given. All ranges of a backend go in one system call where the kernel has one.
    #[must_use]
    pub fn release(&mut self, ranges: &[GuestRange], reason: Reason) -> Released {
        let mut sum = Released::default();
        for range in ranges {
            let mut inside = 0;
            for region in self.ram.regions() {
                let Some(common) = region.guest.intersection(range) else {
                    continue;
                };
                inside += common.len;
                self.spans[region.backend].push(Span {
                    offset: region.offset + (common.start.0 - region.guest.start.0),
                    len: common.len,
                });
            }
            sum.outside = sum.outside.saturating_add(range.len.saturating_sub(inside));
        }
        let work = self.ram.backends().iter().zip(&mut self.spans);
        for ((backend, spans), discarded) in work.zip(&mut self.discarded) {
            *discarded = 0;
            if !spans.is_empty() {
                merge(spans);
                let released = backend.release(spans, reason);
                *discarded = released.discarded;
                sum += released;
                spans.clear();
            }
        }
        sum
    }

    /// Bytes that the last release discarded, for each backend in the order of [`Ram::backends`].
    #[must_use]
    pub fn discarded(&self) -> &[u64] {
        &self.discarded
    }

    /// Has the host provide what is behind `range` now, whole backing pages of it. Returns whether it did; it does not when
    /// a pool of huge pages, or what the process may use, is empty. Writes nothing, so what is there already stays.
    ///
    /// What cannot be provided for another reason shows when it is used, and counts as provided here.
    #[must_use]
    pub fn populate(&self, range: GuestRange) -> bool {
        self.ram.regions().iter().all(|region| {
            let common = region.guest.intersection(&range);
            let Some(common) = common.and_then(|common| common.shrink_to(region.page)) else {
                return true;
            };
            let span = Span {
                offset: region.offset + (common.start.0 - region.guest.start.0),
                len: common.len,
            };
            let backend = &self.ram.backends()[region.backend];
            !matches!(backend.populate(span), Err(error) if is_shortage(&error))
        })
    }
}

/// What madvise(2) says of MADV_POPULATE_WRITE when there is no page: `EFAULT` for an empty pool of huge pages.
fn is_shortage(error: &io::Error) -> bool {
    let short = [libc::EFAULT, libc::ENOMEM, libc::EAGAIN, libc::ENOSPC];
    error.raw_os_error().is_some_and(|number| short.contains(&number))
}

/// Whether process_madvise(2) takes an advice for this process: Linux 6.13 and later do for those that free pages, earlier
/// ones answer `EINVAL`. Found out by trying on a page of our own, once for each advice.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    dont_need: OnceLock<Option<OwnedFd>>,
    dont_need_locked: OnceLock<Option<OwnedFd>>,
    remove: OnceLock<Option<OwnedFd>>,
}

impl Batch {
    /// The descriptor to give to the call, if the kernel takes `advice`.
    fn pidfd(&self, advice: Advice) -> Option<&OwnedFd> {
        let known = match advice {
            Advice::DontNeed => &self.dont_need,
            Advice::DontNeedLocked => &self.dont_need_locked,
            Advice::Remove => &self.remove,
            Advice::PopulateWrite
            | Advice::HugePage
            | Advice::NoHugePage
            | Advice::Mergeable
            | Advice::Unmergeable
            | Advice::DontDump
            | Advice::DoDump
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
        align: None,
        guest_start: 0,
        file: (advice == Advice::Remove).then(|| MapFile::own(memfd.as_fd())),
        reserve: false,
    })?;
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty())?;
    mapping.advise_many(pidfd.as_fd(), &[mapping.whole()], advice)?;
    Ok(pidfd)
}

/// How pages go back.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Way<'a> {
    /// madvise(2).
    Advice(Advice),
    /// A hole in the file behind the mapping (fallocate(2)).
    Punch(BorrowedFd<'a>),
}

/// [`whole_pages`] of shared memory of `file`. The advice is better than a hole, since the kernel finds the place in the file
/// and userfaultfd(2) hears of it, but of locked memory the kernel refuses it.
pub(crate) fn shared_pages(
    mapping: &Mapping,
    spans: &mut Vec<Span>,
    page: PageSize,
    file: BorrowedFd<'_>,
) -> Released {
    let way = if mapping.is_locked() {
        Way::Punch(file)
    } else {
        Way::Advice(Advice::Remove)
    };
    whole_pages(mapping, spans, page, way)
}

/// Gives back the whole pages inside `spans`, which are sorted and apart from each other, and used up. What lies outside
/// whole pages never reaches the kernel: on hugetlb it would be zeroed, not freed.
pub(crate) fn whole_pages(
    mapping: &Mapping,
    spans: &mut Vec<Span>,
    page: PageSize,
    way: Way<'_>,
) -> Released {
    let bytes = |spans: &[Span]| spans.iter().map(|span| span.len).sum::<u64>();
    let asked = bytes(spans);
    spans.retain_mut(|span| {
        let end = page.floor(span.end());
        span.offset = page.ceil(span.offset).unwrap_or(end);
        span.len = end.saturating_sub(span.offset);
        span.len > 0
    });
    let whole = bytes(spans);
    if !page.is_huge() {
        spans.iter().for_each(|span| mapping.before_release(*span));
    }
    let one = |piece| alone(mapping, piece, way);
    let batch = match way {
        Way::Advice(advice) if spans.len() > 1 => mapping.batch().pidfd(advice).map(|pidfd| (pidfd, advice)),
        Way::Advice(_) | Way::Punch(_) => None,
    };
    let discarded = match batch {
        Some((pidfd, advice)) => {
            let many = |pieces: &[Span]| mapping.advise_many(pidfd.as_fd(), pieces, advice);
            in_batches(spans, many, one)
        }
        None => spans.iter().map(|span| one(*span)).sum(),
    };
    Released {
        discarded,
        failed: whole.saturating_sub(discarded),
        rounded: asked - whole,
        ..Released::default()
    }
}

/// Bytes discarded: all of the piece or none.
fn alone(mapping: &Mapping, piece: Span, way: Way<'_>) -> u64 {
    loop {
        let result = match way {
            Way::Advice(advice) => mapping.advise(piece, advice),
            Way::Punch(file) => punch(mapping, piece, file),
        };
        match result {
            Ok(()) => return piece.len,
            // A signal came before the kernel began.
            Err(error) if error.raw_os_error() == Some(libc::EINTR) => {}
            Err(error) => {
                tracing::debug!(?piece, ?way, %error, "memory not given back");
                return 0;
            }
        }
    }
}

fn punch(mapping: &Mapping, piece: Span, file: BorrowedFd<'_>) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let offset = mapping.file_offset(piece.offset);
    Ok(rustix::fs::fallocate(file, flags, offset, piece.len)?)
}

/// Calls `many` until all pieces are done, going on where a short call stopped. A piece that it refuses is tried with `one`,
/// and so is one that would be alone or is too long for it. Returns the bytes discarded.
fn in_batches(
    pieces: &mut [Span],
    mut many: impl FnMut(&[Span]) -> io::Result<u64>,
    mut one: impl FnMut(Span) -> u64,
) -> u64 {
    let mut discarded = 0;
    let mut done = 0;
    while let Some(rest) = pieces.get_mut(done..).filter(|rest| !rest.is_empty()) {
        let fitting = first_batch(rest);
        let batch = &mut rest[..fitting];
        let taken = match batch.len() {
            1 => 0,
            _ => many(batch).unwrap_or(0),
        };
        if taken > 0 {
            discarded += taken;
            done += skip(batch, taken);
        } else {
            discarded += one(batch[0]);
            done += 1;
        }
    }
    discarded
}

/// How many of the first pieces fit into one call; at least one, which may be too long.
fn first_batch(pieces: &[Span]) -> usize {
    let mut bytes = 0_u64;
    let fitting = pieces.iter().take(sys::MAX_RANGES).take_while(|piece| {
        bytes = bytes.saturating_add(piece.len);
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
