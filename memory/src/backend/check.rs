//! What can be refused without touching the host.

use thiserror::Error;

use super::{BackendKind, BackendSpec, HostPolicy, MergeRequest};
use crate::size::{ByteSize, PageSize};

/// Why a backend is refused before anything is opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SpecError {
    /// No bytes.
    #[error("backend '{id}' has size 0")]
    Empty {
        /// The backend.
        id: String,
    },
    /// Ends inside a page.
    #[error("backend '{id}' has {size}, which is not a multiple of its page size, {page}")]
    Size {
        /// The backend.
        id: String,
        /// Its size.
        size: ByteSize,
        /// Its page size.
        page: PageSize,
    },
    /// hugetlb with pages that are not huge.
    #[error("backend '{id}' asks for hugetlb pages of {page}: use 2M or 1G")]
    HugePage {
        /// The backend.
        id: String,
        /// The page size asked for.
        page: PageSize,
    },
    /// A private memfd.
    #[error(
        "backend '{id}' is a memfd with share=off, which would cost every page twice: \
         use share=on, or memory-backend-ram for private memory"
    )]
    PrivateMemfd {
        /// The backend.
        id: String,
    },
    /// KSM on memory that it cannot merge.
    #[error(
        "backend '{id}' has merge=on, but KSM merges private anonymous pages only and this is {what}: \
         use memory-backend-ram with share=off, or merge=off"
    )]
    Merge {
        /// The backend.
        id: String,
        /// What it is.
        what: &'static str,
    },
    /// Preallocation that the reservation contradicts.
    #[error("backend '{id}' has prealloc=on with reserve=off: preallocated memory is always reserved")]
    PreallocWithoutReserve {
        /// The backend.
        id: String,
    },
    /// A reservation that the kernel does not make.
    #[error(
        "backend '{id}' has reserve=on, but the host does not reserve {what} before it is used: \
         use prealloc=on, or leave reserve out"
    )]
    Reserve {
        /// The backend.
        id: String,
        /// What it is.
        what: &'static str,
    },
    /// A policy without nodes.
    #[error("backend '{id}' has policy=bind without host-nodes")]
    NoNodes {
        /// The backend.
        id: String,
    },
}

impl BackendSpec {
    /// Refuses what cannot work on any host.
    ///
    /// # Errors
    /// [`SpecError`] says what, and what to write instead.
    pub fn check(&self) -> Result<(), SpecError> {
        let id = || self.id.clone();
        if self.size == ByteSize::ZERO {
            return Err(SpecError::Empty { id: id() });
        }
        let (page, what) = self.promise();
        if let BackendKind::Memfd { hugetlb: Some(page) } = self.kind
            && !page.is_huge()
        {
            return Err(SpecError::HugePage { id: id(), page });
        }
        // A directory's pages are known when it is opened; they are multiples of the base page at least.
        if !self.size.is_multiple_of(page) {
            let size = self.size;
            return Err(SpecError::Size { id: id(), size, page });
        }
        if self.kind == (BackendKind::Memfd { hugetlb: None }) && self.share == Some(false) {
            return Err(SpecError::PrivateMemfd { id: id() });
        }
        if self.merge == MergeRequest::On
            && let Some(what) = what
        {
            return Err(SpecError::Merge { id: id(), what });
        }
        if self.prealloc && self.reserve == Some(false) {
            return Err(SpecError::PreallocWithoutReserve { id: id() });
        }
        if self.reserve == Some(true) && !self.prealloc && what == Some(SHARED) {
            return Err(SpecError::Reserve {
                id: id(),
                what: SHARED,
            });
        }
        match &self.policy {
            HostPolicy::Bind(nodes) if nodes.is_empty() => Err(SpecError::NoNodes { id: id() }),
            HostPolicy::Bind(_) | HostPolicy::Default => Ok(()),
        }
    }

    /// The page size as far as it is known, and what keeps KSM away, if something does.
    fn promise(&self) -> (PageSize, Option<&'static str>) {
        match (&self.kind, self.share) {
            (BackendKind::Ram, None | Some(false)) => (PageSize::BASE, None),
            (BackendKind::Ram, Some(true)) | (BackendKind::Memfd { hugetlb: None }, _) => {
                (PageSize::BASE, Some(SHARED))
            }
            (BackendKind::Memfd { hugetlb: Some(page) }, _) => (*page, Some("hugetlb memory")),
            (BackendKind::File { .. }, _) => (PageSize::BASE, Some("memory of a shared file")),
        }
    }
}

const SHARED: &str = "shared memory";
