//! One owned host mapping: the memory of one backend. The only holder of host pointers.

#![allow(unsafe_code)]

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use vm_memory::MmapRegion;

use crate::release::Batch;
use crate::size::{ByteSize, PageSize};
use crate::sys;

/// A piece of a mapping, in bytes from its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// Where the piece starts.
    pub offset: u64,
    /// Its bytes.
    pub len: u64,
}

impl Span {
    /// The first byte after the piece.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }
}

/// What a mapping is told about its pages (madvise(2)). None of these can do more harm than change bytes of the mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// `MADV_DONTNEED`: frees pages of private anonymous memory.
    DontNeed,
    /// `MADV_DONTNEED_LOCKED`: the same where the memory may be locked (Linux 5.18).
    DontNeedLocked,
    /// `MADV_REMOVE`: frees pages of shared memory, in the file.
    Remove,
    /// `MADV_POPULATE_WRITE`: provides the pages now.
    PopulateWrite,
    /// `MADV_HUGEPAGE`: transparent huge pages are welcome.
    HugePage,
    /// `MADV_NOHUGEPAGE`: no transparent huge pages from now on.
    NoHugePage,
    /// `MADV_MERGEABLE`: KSM may merge the pages.
    Mergeable,
    /// `MADV_UNMERGEABLE`: KSM lets go of the pages, each of which becomes the mapping's own again.
    Unmergeable,
    /// `MADV_DONTDUMP`: leave the pages out of core dumps.
    DontDump,
    /// `MADV_DODUMP`: have the pages in core dumps again.
    DoDump,
    /// `MADV_DONTFORK`: a child process does not get the pages.
    DontFork,
}

impl Advice {
    const fn number(self) -> i32 {
        match self {
            Self::DontNeed => libc::MADV_DONTNEED,
            Self::DontNeedLocked => libc::MADV_DONTNEED_LOCKED,
            Self::Remove => libc::MADV_REMOVE,
            Self::PopulateWrite => libc::MADV_POPULATE_WRITE,
            Self::HugePage => libc::MADV_HUGEPAGE,
            Self::NoHugePage => libc::MADV_NOHUGEPAGE,
            Self::Mergeable => libc::MADV_MERGEABLE,
            Self::Unmergeable => libc::MADV_UNMERGEABLE,
            Self::DontDump => libc::MADV_DONTDUMP,
            Self::DoDump => libc::MADV_DODUMP,
            Self::DontFork => libc::MADV_DONTFORK,
        }
    }
}

/// What to map.
#[derive(Clone, Copy, Debug)]
pub struct MapRequest<'a> {
    /// Bytes, a multiple of `page`.
    pub size: ByteSize,
    /// The backing page.
    pub page: PageSize,
    /// Where the guest will see the first byte. Host address and guest address agree modulo 2 MiB (1 GiB for pages of 1 GiB),
    /// so that a huge page of the host can serve a huge page of the guest.
    pub guest_start: u64,
    /// `Some`: they also agree modulo this power of two, where it is more.
    pub align: Option<ByteSize>,
    /// The file that is mapped; `None`: private anonymous memory.
    pub file: Option<MapFile<'a>>,
    /// Whether the kernel accounts the memory now (no `MAP_NORESERVE`).
    pub reserve: bool,
}

/// A file behind a mapping.
#[derive(Clone, Copy, Debug)]
pub struct MapFile<'a> {
    /// The file, open for reading, and for writing where the mapping is shared.
    pub fd: BorrowedFd<'a>,
    /// The byte where the mapping begins; `None`: the remainder that host and guest addresses have, so that the file can have
    /// huge pages where they can.
    pub offset: Option<u64>,
    /// Whether the guest's writes stay out of the file.
    pub private: bool,
}

impl<'a> MapFile<'a> {
    /// A file that is nobody else's, mapped shared.
    #[must_use]
    pub const fn own(fd: BorrowedFd<'a>) -> Self {
        Self {
            fd,
            offset: None,
            private: false,
        }
    }
}

impl MapRequest<'_> {
    /// What host addresses and guest addresses are congruent modulo.
    fn alignment(&self) -> u64 {
        let page = self.page.max(PageSize::HUGE_2M).bytes();
        self.align.map_or(page, |align| align.bytes().max(page))
    }

    /// Where the first byte lies in the file.
    #[must_use]
    pub fn file_offset(&self) -> u64 {
        let congruent = self.guest_start % self.page.max(PageSize::HUGE_2M).bytes();
        self.file.and_then(|file| file.offset).unwrap_or(congruent)
    }

    /// How large the file must be.
    #[must_use]
    pub fn file_size(&self) -> u64 {
        self.file_offset().saturating_add(self.size.bytes())
    }
}

/// Readable and writable memory between two stretches of inaccessible addresses, which keep the kernel from joining it with
/// a neighbour: /proc/self/smaps shows it alone.
pub struct Mapping {
    reserved: NonNull<u8>,
    reserved_len: usize,
    start: NonNull<u8>,
    len: usize,
    /// What others see of this mapping; see [`Mapping::view`].
    views: Mutex<Vec<Arc<MmapRegion>>>,
    /// Where the first byte is in the file, if there is one.
    file_offset: u64,
    batch: Batch,
    /// Whether pieces of 2 MiB were given back, so that no transparent huge page may close the holes.
    holes: AtomicBool,
    /// Whether transparent huge pages are not wanted, holes or not.
    plain: AtomicBool,
    locked: AtomicBool,
}

// SAFETY: the pointers are only handed to the kernel and to vm-memory, which accesses the bytes by volatile or atomic
// accesses; the fields never change after `new`, but for those with a lock or an atomic.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps what `request` says.
    ///
    /// # Errors
    /// What mmap(2) says: `ENOMEM` when the memory cannot be accounted, or when a hugetlb pool cannot reserve it.
    pub fn new(request: &MapRequest<'_>) -> io::Result<Self> {
        let too_large = || io::Error::from_raw_os_error(libc::ENOMEM);
        let align = request.alignment();
        let guard = PageSize::BASE.bytes();
        let len = usize::try_from(request.size.bytes()).map_err(|_| too_large())?;
        let total = (request.size.bytes().checked_add(align))
            .and_then(|total| total.checked_add(2 * guard))
            .and_then(|total| usize::try_from(total).ok())
            .ok_or_else(too_large)?;
        let reserved = sys::reserve(total)?;
        let first = reserved.addr().get() as u64 + guard;
        // The next address that leaves the same remainder as the guest's.
        let skip = request.guest_start.wrapping_sub(first) % align;
        let skip = usize::try_from(skip + guard).map_err(|_| too_large())?;
        // SAFETY: guard + (a remainder below align) + len + guard is at most `total`, so this is inside the reservation.
        let start = unsafe { reserved.add(skip) };
        let mapping = Self {
            reserved,
            reserved_len: total,
            start,
            len,
            views: Mutex::default(),
            file_offset: request.file_offset(),
            batch: Batch::default(),
            holes: AtomicBool::new(false),
            plain: AtomicBool::new(false),
            locked: AtomicBool::new(false),
        };
        let source = request
            .file
            .map_or(sys::Source::Anonymous, |file| sys::Source::File {
                fd: file.fd,
                offset: request.file_offset(),
                private: file.private,
            });
        // SAFETY: start and len lie in the reservation just made, which nobody knows yet. `mapping` gives it back on failure.
        unsafe { sys::map_over(start, len, source, request.reserve) }?;
        Ok(mapping)
    }

    /// The host address of the first byte.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.start.addr().get() as u64
    }

    /// Bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len as u64
    }

    /// Never: a mapping has at least a page.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The whole mapping.
    #[must_use]
    pub fn whole(&self) -> Span {
        Span {
            offset: 0,
            len: self.len(),
        }
    }

    /// Which ranges process_madvise(2) serves here.
    pub(crate) fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Tells the kernel something about a piece (madvise(2)).
    ///
    /// # Errors
    /// `EINVAL` when the piece is not inside the mapping, else what the kernel says. Success does not mean that anything
    /// happened: read it back.
    pub fn advise(&self, span: Span, advice: Advice) -> io::Result<()> {
        let (start, len) = self.locate(span)?;
        // SAFETY: `locate` checked the bounds; guest memory may change at any time and its users know it.
        unsafe { sys::advise(start, len, advice.number()) }
    }

    /// Tells the kernel the same about many pieces in one call (process_madvise(2)), at most 1024 of them and 2 GiB - 4 KiB.
    /// Returns the bytes advised, which may be fewer than asked.
    ///
    /// # Errors
    /// As [`Mapping::advise`], when not even the first piece was advised.
    pub(crate) fn advise_many(
        &self,
        pidfd: BorrowedFd<'_>,
        spans: &[Span],
        advice: Advice,
    ) -> io::Result<u64> {
        // A piece that is not inside ends the list, as one that the kernel refuses does.
        let mut inside = spans.iter().map_while(|span| self.locate(*span).ok()).peekable();
        if inside.peek().is_none() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: as in `advise`, for each piece; Batch opens the pidfd of this process.
        unsafe { sys::advise_many(pidfd, inside, advice.number()) }.map(|bytes| bytes as u64)
    }

    /// Prepares for the release of `span`. A span that is not made of whole 2 MiB leaves a hole which khugepaged would fill
    /// within seconds (`max_ptes_none` is 511 of 512 by default), and the host would have given back what it got. So from the
    /// first such hole on the mapping gets no more transparent huge pages.
    pub(crate) fn before_release(&self, span: Span) {
        let huge = PageSize::HUGE_2M;
        let start = self.address().saturating_add(span.offset);
        let whole = huge.floor(start) == start && span.len.is_multiple_of(huge.bytes());
        if !whole && !self.plain.load(Ordering::Relaxed) && !self.holes.swap(true, Ordering::Relaxed) {
            // Fails on a kernel without transparent huge pages, where nothing closes holes.
            let _ = self.advise(self.whole(), Advice::NoHugePage);
        }
    }

    /// Nothing is missing any more: transparent huge pages are welcome again, if holes had ended them.
    pub(crate) fn without_holes(&self) {
        if self.holes.swap(false, Ordering::Relaxed) {
            let _ = self.advise(self.whole(), Advice::HugePage);
        }
    }

    /// Transparent huge pages are not wanted here, now or later.
    ///
    /// # Errors
    /// As [`Mapping::advise`].
    pub(crate) fn forbid_huge(&self) -> io::Result<()> {
        self.plain.store(true, Ordering::Relaxed);
        self.advise(self.whole(), Advice::NoHugePage)
    }

    /// Keeps the pages in RAM from the moment each is there (mlock2(2), `MLOCK_ONFAULT`).
    ///
    /// # Errors
    /// `ENOMEM` and `EPERM` when `RLIMIT_MEMLOCK` is too low.
    pub(crate) fn lock(&self) -> io::Result<()> {
        // SAFETY: the range is this mapping.
        unsafe { sys::lock_on_fault(self.start, self.len) }?;
        self.locked.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Whether [`Mapping::lock`] succeeded: advices that free pages then fail, but for [`Advice::DontNeedLocked`].
    pub(crate) fn is_locked(&self) -> bool {
        self.locked.load(Ordering::Relaxed)
    }

    /// Where a byte of the mapping is in its file.
    pub(crate) fn file_offset(&self, offset: u64) -> u64 {
        self.file_offset.saturating_add(offset)
    }

    /// Sets the NUMA policy (mbind(2)) of all pages, also of those that are there already. `mode` is one of `MPOL_*`, and bit n
    /// of `mask` is node n.
    ///
    /// # Errors
    /// `EIO` when a page is elsewhere and cannot be moved, `EINVAL` when no node of the mask has memory or the kernel does not
    /// know the mode, `ENOSYS` on a kernel without NUMA. For hugetlb pages that are elsewhere the kernel says nothing.
    pub(crate) fn place(&self, mode: i32, mask: &[u64]) -> io::Result<()> {
        // SAFETY: the range is this mapping.
        unsafe { sys::set_policy(self.start, self.len, mode, mask) }
    }

    /// Writes to each page of a piece without changing it: [`Advice::PopulateWrite`] for kernels before 5.14. Where a page
    /// cannot be had, the kernel sends SIGBUS.
    ///
    /// # Errors
    /// `EINVAL` when the piece is not inside the mapping.
    pub fn touch(&self, span: Span, page: PageSize) -> io::Result<()> {
        let (start, len) = self.locate(span)?;
        // SAFETY: in bounds and mapped writable; pieces start at a page; guest memory is accessed volatile or atomic only.
        unsafe { sys::touch(start, len, page) };
        Ok(())
    }

    /// A piece as vm-memory sees it. The mapping stays for good when somebody keeps the view longer than the mapping.
    ///
    /// # Errors
    /// `EINVAL` when the piece is not inside the mapping.
    pub fn view(&self, span: Span) -> io::Result<Arc<MmapRegion>> {
        let (start, len) = self.locate(span)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: in bounds; `drop` does not unmap while somebody else has this view.
        let view = unsafe { MmapRegion::build_raw(start.as_ptr(), len, access, libc::MAP_NORESERVE) };
        let view = Arc::new(view.map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?);
        self.lock_views().push(Arc::clone(&view));
        Ok(view)
    }

    fn lock_views(&self) -> std::sync::MutexGuard<'_, Vec<Arc<MmapRegion>>> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host address of a piece that lies inside the mapping.
    fn locate(&self, span: Span) -> io::Result<(NonNull<u8>, usize)> {
        let outside = || io::Error::from_raw_os_error(libc::EINVAL);
        let offset = usize::try_from(span.offset).map_err(|_| outside())?;
        let len = usize::try_from(span.len).map_err(|_| outside())?;
        let end = offset.checked_add(len).ok_or_else(outside)?;
        if end > self.len {
            return Err(outside());
        }
        // SAFETY: offset is at most the length of this mapping.
        Ok((unsafe { self.start.add(offset) }, len))
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // A view is only cloned by somebody who has one, so none can appear once ours is the last.
        if self.lock_views().iter().any(|view| Arc::strong_count(view) > 1) {
            tracing::debug!(
                address = self.address(),
                "guest memory stays mapped: it is still in use"
            );
            return;
        }
        // SAFETY: no view is left, and the range was reserved whole by `new`.
        unsafe { sys::unmap(self.reserved, self.reserved_len) }
    }
}

impl fmt::Debug for Mapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mapping")
            .field("address", &format_args!("{:#x}", self.address()))
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
