//! The system calls on memory that neither the standard library nor rustix offers safely.
//!
//! Addresses go in as pointers into mappings that [`crate::mapping`] owns; that module keeps the invariants.

#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use vm_memory::VolatileSlice;

use crate::size::PageSize;

/// `MPOL_MF_STRICT` and `MPOL_MF_MOVE` of linux/mempolicy.h: pages elsewhere are moved, and an error where they cannot be.
const STRICT_AND_MOVE: libc::c_long = 1 | 2;

/// The number of cachestat(2), which libc does not have yet.
const CACHESTAT: libc::c_long = 451;

/// Makes the result of a C call a [`io::Result`].
fn check(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Takes `len` bytes of address space that cannot be accessed and cost nothing (mmap(2), `PROT_NONE`).
pub(crate) fn reserve(len: usize) -> io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: without MAP_FIXED the kernel picks addresses that nobody uses.
    let start = unsafe { libc::mmap(ptr::null_mut(), len, libc::PROT_NONE, flags, -1, 0) };
    if start == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(start.cast()).ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))
}

/// What is mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Source<'a> {
    /// Private memory without a file.
    Anonymous,
    /// The bytes of a file from `offset` on; with `private` what is written does not reach it.
    File {
        fd: BorrowedFd<'a>,
        offset: u64,
        private: bool,
    },
}

/// Puts readable and writable memory over `len` bytes at `start` (mmap(2), `MAP_FIXED`).
///
/// # Safety
/// The bytes belong to a [`reserve`]d range of the caller that nobody else refers to.
pub(crate) unsafe fn map_over(
    start: NonNull<u8>,
    len: usize,
    source: Source<'_>,
    account: bool,
) -> io::Result<()> {
    let (kind, fd, offset) = match source {
        Source::Anonymous => (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0),
        Source::File { fd, offset, private } => {
            let kind = if private {
                libc::MAP_PRIVATE
            } else {
                libc::MAP_SHARED
            };
            (kind, fd.as_raw_fd(), offset)
        }
    };
    let reserve = if account { 0 } else { libc::MAP_NORESERVE };
    let offset = libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG))?;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = kind | reserve | libc::MAP_FIXED;
    // SAFETY: the caller owns the address range, so replacing what is there harms nobody.
    let mapped = unsafe { libc::mmap(start.as_ptr().cast(), len, access, flags, fd, offset) };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Gives back address space from [`reserve`] and everything mapped over it (munmap(2)).
///
/// # Safety
/// Nobody refers to the range any more.
pub(crate) unsafe fn unmap(start: NonNull<u8>, len: usize) {
    // SAFETY: the caller says that nobody refers to the range. It cannot fail for a range that was mapped whole.
    let result = unsafe { libc::munmap(start.as_ptr().cast(), len) };
    debug_assert_eq!(result, 0, "munmap of an owned range");
}

/// madvise(2).
///
/// # Safety
/// The range lies in a mapping of the caller, all of whose users expect its bytes to change at any time.
pub(crate) unsafe fn advise(start: NonNull<u8>, len: usize, advice: i32) -> io::Result<()> {
    // SAFETY: the caller owns the range and its users expect any change.
    check(unsafe { libc::madvise(start.as_ptr().cast(), len, advice) }.into()).map(drop)
}

/// Most ranges of one [`advise_many`] (`UIO_MAXIOV`).
pub(crate) const MAX_RANGES: usize = 1024;

/// process_madvise(2) on this process: `advice` for many ranges, the first [`MAX_RANGES`] of them. Returns the bytes advised,
/// fewer than asked when a range after the first was refused.
///
/// # Safety
/// As for [`advise`], for each range; `pidfd` is this process.
pub(crate) unsafe fn advise_many(
    pidfd: BorrowedFd<'_>,
    ranges: impl Iterator<Item = (NonNull<u8>, usize)>,
    advice: i32,
) -> io::Result<usize> {
    // On the stack: a balloon comes here for every kick of its guest.
    let mut vectors = [libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    }; MAX_RANGES];
    let mut count = 0;
    for (vector, (start, len)) in vectors.iter_mut().zip(ranges) {
        (vector.iov_base, vector.iov_len) = (start.as_ptr().cast(), len);
        count += 1;
    }
    // SAFETY: the vectors live until the call returns; the caller owns the ranges that they name.
    check(unsafe {
        libc::syscall(
            libc::SYS_process_madvise,
            pidfd.as_raw_fd(),
            vectors.as_ptr(),
            count,
            libc::c_long::from(advice),
            0_usize,
        )
    })
}

/// mbind(2) with `MPOL_MF_STRICT` and `MPOL_MF_MOVE`. Bit n of `mask` is node n.
///
/// # Safety
/// The range lies in a mapping of the caller. (Which node a page is on is invisible to its users.)
pub(crate) unsafe fn set_policy(start: NonNull<u8>, len: usize, mode: i32, mask: &[u64]) -> io::Result<()> {
    // The kernel takes one from the count before it reads the mask (get_nodes() in mm/mempolicy.c), so the count is one
    // more than the bits, else the last node is cut off. A policy without nodes takes none at all.
    let (mask, bits) = match mask {
        [] => (ptr::null(), 0),
        mask => (mask.as_ptr(), mask.len() * 64 + 1),
    };
    // SAFETY: the mask lives until the call returns and has the bits that `bits` says; the caller owns the range.
    check(unsafe {
        libc::syscall(
            libc::SYS_mbind,
            start.as_ptr(),
            len,
            libc::c_long::from(mode),
            mask,
            bits,
            STRICT_AND_MOVE,
        )
    })
    .map(drop)
}

/// mlock2(2) with `MLOCK_ONFAULT`.
///
/// # Safety
/// The range lies in a mapping of the caller. (Whether a page may be swapped out is invisible to its users.)
pub(crate) unsafe fn lock_on_fault(start: NonNull<u8>, len: usize) -> io::Result<()> {
    // SAFETY: the caller owns the range.
    check(unsafe { libc::mlock2(start.as_ptr().cast(), len, libc::MLOCK_ONFAULT) }.into()).map(drop)
}

/// How many base pages of a part of a file are in the page cache (cachestat(2), Linux 6.5). `ENOSYS` before that, `EOPNOTSUPP`
/// for hugetlbfs.
pub(crate) fn cached_pages(file: BorrowedFd<'_>, offset: u64, len: u64) -> io::Result<u64> {
    // `struct cachestat_range`, then `struct cachestat`, of which `nr_cache` is the first member (linux/mman.h).
    let range = [offset, len];
    let mut found = [0_u64; 5];
    // SAFETY: the kernel reads two numbers from `range` and writes five to `found`, which live until the call returns.
    check(unsafe {
        libc::syscall(
            CACHESTAT,
            file.as_raw_fd(),
            range.as_ptr(),
            found.as_mut_ptr(),
            0_usize,
        )
    })?;
    Ok(found[0])
}

/// Writes to each page of the range without changing a byte, so that the kernel provides the page.
///
/// # Safety
/// The range is mapped writable, starts at a page, and is only accessed by volatile or atomic accesses.
pub(crate) unsafe fn touch(start: NonNull<u8>, len: usize, page: PageSize) {
    let step = usize::try_from(page.bytes()).unwrap_or(usize::MAX);
    for offset in (0..len).step_by(step) {
        // SAFETY: `offset` is inside the range; an atomic "or" of 0 cannot lose what somebody else writes meanwhile.
        let byte = unsafe { std::sync::atomic::AtomicU8::from_ptr(start.as_ptr().add(offset)) };
        byte.fetch_or(0, std::sync::atomic::Ordering::Relaxed);
    }
}

/// `PAGEMAP_SCAN` of linux/fs.h: `_IOWR('f', 16, struct pm_scan_arg)`.
const PAGEMAP_SCAN: libc::Ioctl = 0xC060_6610;
/// `PAGE_IS_PRESENT`, `PAGE_IS_PFNZERO` and `PAGE_IS_HUGE` of linux/fs.h.
const IS_PRESENT: u64 = 1 << 3;
const IS_ZERO: u64 = 1 << 5;
const IS_HUGE: u64 = 1 << 6;

/// A run of addresses that a scan has found: `struct page_region` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PageRun {
    /// The first address.
    pub(crate) start: u64,
    /// The address after the last.
    pub(crate) end: u64,
    categories: u64,
}

impl PageRun {
    /// Whether they are pages larger than 4 KiB, and not the page of zeroes. Else there is nothing that costs the host memory.
    pub(crate) fn is_huge(&self) -> bool {
        self.categories & (IS_PRESENT | IS_ZERO | IS_HUGE) == IS_PRESENT | IS_HUGE
    }
}

/// `struct pm_scan_arg` of linux/fs.h.
#[repr(C)]
#[derive(Debug, Default)]
struct ScanRequest {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    runs: u64,
    runs_len: u64,
    max_pages: u64,
    inverted: u64,
    all_of: u64,
    any_of: u64,
    returned: u64,
}

/// Finds what in `range` of this process is anything but pages of 4 KiB with contents: larger pages, none at all, the kernel's
/// page of zeroes (`PAGEMAP_SCAN`, Linux 6.7; Documentation/admin-guide/mm/pagemap.rst). Not the pages themselves: to leave out a
/// page costs the kernel a quarter of what it costs to tell one. `pagemap` is `/proc/self/pagemap`. Returns how many of `runs`
/// were filled, and where the walk ended: at the end of the range unless `runs` was full.
///
/// # Errors
/// `ENOTTY` on an older kernel.
pub(crate) fn scan_pages(
    pagemap: BorrowedFd<'_>,
    range: Range<u64>,
    runs: &mut [PageRun],
) -> io::Result<(usize, u64)> {
    let mut request = ScanRequest {
        size: size_of::<ScanRequest>() as u64,
        start: range.start,
        end: range.end,
        runs: runs.as_mut_ptr().addr() as u64,
        runs_len: runs.len() as u64,
        // Inverted, this one means: not there.
        inverted: IS_PRESENT,
        any_of: IS_PRESENT | IS_ZERO | IS_HUGE,
        returned: IS_PRESENT | IS_ZERO | IS_HUGE,
        ..ScanRequest::default()
    };
    // Where the buffer is goes to the kernel as a number, so say to the compiler that it is used.
    runs.as_mut_ptr().expose_provenance();
    // SAFETY: the kernel reads and writes `request`, and writes `runs_len` entries at `runs` at most; both live until the call
    // returns, and any bytes make a valid entry. The pages of `range` are only looked up.
    let found = check(unsafe { libc::ioctl(pagemap.as_raw_fd(), PAGEMAP_SCAN, &raw mut request) }.into())?;
    Ok((found, request.walk_end))
}

/// The host node of the page at each address of this process, or below 0 an error: `-ENOENT`, `-EFAULT` where none is
/// (move_pages(2) without nodes, which moves nothing).
///
/// # Errors
/// `ENOSYS` on a kernel without NUMA.
pub(crate) fn nodes_of(addresses: &[u64]) -> io::Result<Vec<i32>> {
    let mut nodes = vec![-libc::ENOENT; addresses.len()];
    // SAFETY: the kernel reads as many addresses and writes as many numbers as both have; it only looks the addresses up.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_pages,
            0,
            addresses.len(),
            addresses.as_ptr(),
            ptr::null::<libc::c_int>(),
            nodes.as_mut_ptr(),
            0,
        )
    })?;
    Ok(nodes)
}

/// Most pieces of guest memory in one [`transfer`]: keeps the call's vectors on the stack.
pub(crate) const MAX_PIECES: usize = 128;

/// Which way bytes go between a file and memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Transfer {
    /// From this offset of the file (preadv(2)).
    Read(u64),
    /// To this offset of the file (pwritev(2)).
    Write(u64),
    /// Into something that has no offsets (writev(2)).
    Send,
}

/// Moves bytes between `file` and the first [`MAX_PIECES`] of `pieces`. Returns how many, perhaps fewer than asked.
pub(crate) fn transfer<'a>(
    way: Transfer,
    file: BorrowedFd<'_>,
    pieces: impl Iterator<Item = VolatileSlice<'a>>,
) -> io::Result<usize> {
    let mut vectors = [libc::iovec {
        iov_base: ptr::null_mut(),
        iov_len: 0,
    }; MAX_PIECES];
    let mut count = 0;
    for (vector, piece) in vectors.iter_mut().zip(pieces) {
        (vector.iov_base, vector.iov_len) = (piece.ptr_guard_mut().as_ptr().cast(), piece.len());
        count += 1;
    }
    let (file, vectors) = (file.as_raw_fd(), vectors.as_ptr());
    let at = |offset| libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EFBIG));
    // SAFETY: each vector is a slice of memory that lives for 'a, longer than this call, and whose users expect any change
    // at any time; `count` vectors are filled in. An address that the kernel cannot access is EFAULT.
    let moved = unsafe {
        match way {
            Transfer::Read(offset) => libc::preadv(file, vectors, count, at(offset)?),
            Transfer::Write(offset) => libc::pwritev(file, vectors, count, at(offset)?),
            Transfer::Send => libc::writev(file, vectors, count),
        }
    };
    usize::try_from(moved).map_err(|_| io::Error::last_os_error())
}
