//! Shared memory of a memfd, with base pages or pages of a hugetlb pool.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags};

use super::{Backend, BackendKind, BackendSpec, OpenError, Released};
use crate::mapping::{Advice, MapRequest, Mapping, Span};
use crate::release::{held_by, whole_pages};
use crate::size::{ByteSize, PageSize};

/// A memfd; always mapped shared, since a private mapping of it costs every page twice.
#[derive(Debug)]
pub(super) struct Memfd {
    file: OwnedFd,
    page: PageSize,
}

impl Backend for Memfd {
    fn open(spec: &BackendSpec) -> Result<Self, OpenError> {
        let page = match &spec.kind {
            BackendKind::Memfd { hugetlb: Some(page) } => *page,
            BackendKind::Memfd { hugetlb: None } | BackendKind::Ram | BackendKind::File { .. } => {
                PageSize::BASE
            }
        };
        let huge = if page == PageSize::HUGE_2M {
            MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB
        } else if page == PageSize::HUGE_1G {
            MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB
        } else {
            MemfdFlags::empty()
        };
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | huge;
        // A name with a NUL or longer than 249 bytes is refused (memfd_create(2)); it only serves /proc.
        let file =
            rustix::fs::memfd_create(c"ballast-ram", flags).map_err(|source| OpenError::CreateMemfd {
                page,
                source: source.into(),
            })?;
        Ok(Self { file, page })
    }

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

    fn map(&self, size: ByteSize, guest_start: u64, reserve: bool) -> io::Result<Mapping> {
        let request = MapRequest {
            size,
            page: self.page,
            guest_start,
            file: Some(self.file.as_fd()),
            reserve,
        };
        rustix::fs::ftruncate(&self.file, request.file_size())?;
        // Whoever may get this descriptor later cannot cut the guest's memory off.
        rustix::fs::fcntl_add_seals(&self.file, SealFlags::SHRINK | SealFlags::GROW)?;
        Mapping::new(&request)
    }

    fn release(&self, mapping: &Mapping, spans: &mut Vec<Span>) -> Released {
        whole_pages(mapping, spans, self.page, Advice::Remove)
    }

    fn resident(&self, _mapping: &Mapping) -> io::Result<ByteSize> {
        held_by(&self.file)
    }

    fn room(&self) -> Option<ByteSize> {
        None
    }
}
