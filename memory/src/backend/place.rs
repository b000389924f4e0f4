//! What a file system gives as memory.

use std::os::fd::AsFd;
use std::path::Path;

use super::{Lack, OpenError};
use crate::mapping::Mapping;
use crate::size::{ByteSize, PageSize};
use crate::sys;

/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS: u64 = 0x0102_1994;
/// `HUGETLBFS_MAGIC` of linux/magic.h.
const HUGETLBFS: u64 = 0x9584_58f6;

/// The kind of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Files are memory.
    Tmpfs,
    /// Files are huge pages of this size.
    Hugetlbfs(PageSize),
    /// Files are elsewhere, and memory caches them. The type is that of statfs(2).
    Disk(u64),
}

impl Place {
    /// Where `file` is, which was opened as `path`. statfs(2) gives a hugetlbfs its page as block size.
    pub(super) fn of(path: &Path, file: impl AsFd) -> Result<Self, OpenError> {
        let state = rustix::fs::fstatfs(file).map_err(|source| OpenError::OpenPath {
            path: path.to_owned(),
            source: source.into(),
        })?;
        match u64::try_from(state.f_type).unwrap_or(0) {
            TMPFS => Ok(Self::Tmpfs),
            HUGETLBFS => {
                let bytes = u64::try_from(state.f_bsize).unwrap_or(0);
                let page = PageSize::from_bytes(bytes).filter(|page| page.is_huge());
                page.map(Self::Hugetlbfs).ok_or_else(|| OpenError::PageSize {
                    path: path.to_owned(),
                    bytes,
                })
            }
            kind => Ok(Self::Disk(kind)),
        }
    }

    /// The pages of its files.
    pub(super) fn page(self) -> PageSize {
        match self {
            Self::Hugetlbfs(page) => page,
            Self::Tmpfs | Self::Disk(_) => PageSize::BASE,
        }
    }

    /// Its name, for people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hugetlbfs(_) => "hugetlbfs file",
            Self::Tmpfs => "tmpfs file",
            Self::Disk(_) => "file",
        }
    }
}

/// What the file system of `file` has left; `None` where it has no limit of its own.
pub(super) fn room(file: impl AsFd) -> Option<ByteSize> {
    let state = rustix::fs::fstatfs(file).ok()?;
    // A file system without a limit says that it has no blocks at all.
    if state.f_blocks == 0 {
        return None;
    }
    let block = u64::try_from(state.f_bsize).ok()?;
    Some(ByteSize::from_bytes(state.f_bavail.saturating_mul(block)))
}

/// Whether the file system of `file` has no page left. A hugetlbfs has those of its pool, and perhaps a limit below that.
pub(super) fn full(file: impl AsFd, place: Place) -> Option<Lack> {
    room(file)
        .filter(|left| *left < place.page().size())
        .map(Lack::Full)
}

/// What memory holds of the file behind a shared mapping, mapped or not; `None` where the kernel does not tell.
pub(super) fn cached(mapping: &Mapping, file: impl AsFd) -> Option<ByteSize> {
    let pages = sys::cached_pages(file.as_fd(), mapping.file_offset(0), mapping.len()).ok()?;
    Some(ByteSize::from_bytes(pages.saturating_mul(PageSize::BASE.bytes())))
}
