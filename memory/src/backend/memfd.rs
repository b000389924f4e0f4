//! Shared memory of a memfd, with base pages or pages of a hugetlb pool.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

use super::{Backend, Held, OpenError, Released};
use crate::mapping::{MapFile, MapRequest, Mapping, Span};
use crate::release::{held_by, shared_pages};
use crate::size::{ByteSize, PageSize};

/// A memfd; always mapped shared, since a private mapping of it costs every page twice.
#[derive(Debug)]
pub(super) struct Memfd {
    file: OwnedFd,
    page: PageSize,
    seal: bool,
}

impl Memfd {
    /// An empty memfd with pages of this size, which gets its seals with its size.
    pub(super) fn open(page: PageSize, seal: bool) -> Result<Self, OpenError> {
        let huge = if page == PageSize::HUGE_2M {
            MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB
        } else if page == PageSize::HUGE_1G {
            MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB
        } else {
            MemfdFlags::empty()
        };
        let sealing = if seal {
            MemfdFlags::ALLOW_SEALING
        } else {
            MemfdFlags::empty()
        };
        let flags = MemfdFlags::CLOEXEC | sealing | huge;
        // A name with a NUL or longer than 249 bytes is refused (memfd_create(2)); it only serves /proc.
        let file =
            rustix::fs::memfd_create(c"ballast-ram", flags).map_err(|source| OpenError::CreateMemfd {
                page,
                source: source.into(),
            })?;
        Ok(Self { file, page, seal })
    }
}

impl Backend for Memfd {
    fn describe(&self) -> String {
        let kind = if self.page.is_huge() {
            "hugetlb memfd"
        } else {
            "memfd"
        };
        kind.to_owned()
    }

    fn page_size(&self) -> PageSize {
        self.page
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn shared_file(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn caches_disk(&self) -> bool {
        false
    }

    fn keeps(&self) -> Option<&'static str> {
        None
    }

    fn map(&self, size: ByteSize, guest_start: u64, reserve: bool) -> io::Result<Mapping> {
        let request = MapRequest {
            size,
            page: self.page,
            align: None,
            guest_start,
            file: Some(MapFile::own(self.file.as_fd())),
            reserve,
        };
        rustix::fs::ftruncate(&self.file, request.file_size())?;
        if self.seal {
            // Whoever may get this descriptor later cannot cut the guest's memory off.
            rustix::fs::fcntl_add_seals(&self.file, SealFlags::SHRINK | SealFlags::GROW)?;
        }
        Mapping::new(&request)
    }

    fn started(&self) {}

    fn release(&self, mapping: &Mapping, spans: &mut Vec<Span>) -> Released {
        shared_pages(mapping, spans, self.page, self.file.as_fd())
    }

    fn held(&self, _mapping: &Mapping) -> io::Result<Held> {
        held_by(&self.file).map(Held::InFile)
    }

    fn room(&self) -> Option<ByteSize> {
        None
    }
}
