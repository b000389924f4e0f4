//! What can be refused without touching the host.

use thiserror::Error;

use super::{Backend, BackendKind, BackendSpec, HostPolicy, Lock, MergeRequest, Placing, Prealloc, Thp};
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
        what: String,
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
    /// Threads for nothing.
    #[error("backend '{id}' has prealloc-threads= without prealloc=on")]
    ThreadsWithoutPrealloc {
        /// The backend.
        id: String,
    },
    /// All of it locked, but not there.
    #[error(
        "backend '{id}' has lock=on, which fills all of its memory before the guest starts, without prealloc=on: \
         use lock=on-fault"
    )]
    LockWithoutPrealloc {
        /// The backend.
        id: String,
    },
    /// Transparent huge pages of huge pages.
    #[error("backend '{id}' has thp=on, but {what} has huge pages of its own: leave thp out")]
    HugeAnyway {
        /// The backend.
        id: String,
        /// What it is.
        what: String,
    },
    /// An alignment that is none.
    #[error("backend '{id}' has align={align}: use a power of two from 4 KiB on", align = align.bytes())]
    Align {
        /// The backend.
        id: String,
        /// What was asked.
        align: ByteSize,
    },
    /// Changes that can go nowhere.
    #[error("backend '{id}' has readonly=on with share=on: a guest writes to its RAM, so use share=off")]
    ReadOnlyShared {
        /// The backend.
        id: String,
    },
    /// A policy without nodes.
    #[error("backend '{id}' has policy={policy} without host-nodes")]
    NoNodes {
        /// The backend.
        id: String,
        /// The policy.
        policy: &'static str,
    },
    /// More nodes than the policy takes.
    #[error(
        "backend '{id}' has policy=preferred with several host-nodes, of which the kernel would take the first: \
         use policy=preferred-many, or one node"
    )]
    PreferredMany {
        /// The backend.
        id: String,
    },
    /// A policy that places nothing.
    #[error(
        "backend '{id}' has policy={policy}, but the kernel places the pages of {what} without asking: \
         use a file on tmpfs or hugetlbfs, or leave policy out"
    )]
    PolicyOfDisk {
        /// The backend.
        id: String,
        /// The policy.
        policy: &'static str,
        /// What it is.
        what: String,
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
        if let BackendKind::Memfd {
            hugetlb: Some(page), ..
        } = self.kind
            && !page.is_huge()
        {
            return Err(SpecError::HugePage { id: id(), page });
        }
        // A file's pages are known when it is opened; they are multiples of the base page at least.
        if !self.size.is_multiple_of(page) {
            let size = self.size;
            return Err(SpecError::Size { id: id(), size, page });
        }
        if matches!(self.kind, BackendKind::Memfd { hugetlb: None, .. }) && self.share == Some(false) {
            return Err(SpecError::PrivateMemfd { id: id() });
        }
        if self.merge == MergeRequest::On
            && let Some(what) = what
        {
            let what = what.to_owned();
            return Err(SpecError::Merge { id: id(), what });
        }
        if self.prealloc.wanted() && self.reserve == Some(false) {
            return Err(SpecError::PreallocWithoutReserve { id: id() });
        }
        if self.reserve == Some(true) && self.prealloc != Prealloc::On && what == Some(SHARED) {
            return Err(SpecError::Reserve {
                id: id(),
                what: SHARED,
            });
        }
        if self.prealloc_threads.is_some() && !self.prealloc.wanted() {
            return Err(SpecError::ThreadsWithoutPrealloc { id: id() });
        }
        if self.lock == Lock::On && self.prealloc != Prealloc::On {
            return Err(SpecError::LockWithoutPrealloc { id: id() });
        }
        self.check_file()?;
        match &self.policy {
            HostPolicy::Nodes(_, nodes) if nodes.is_empty() => Err(SpecError::NoNodes {
                id: id(),
                policy: self.policy.name(),
            }),
            HostPolicy::Nodes(Placing::Preferred, nodes) if nodes.len() > 1 => {
                Err(SpecError::PreferredMany { id: id() })
            }
            HostPolicy::Nodes(..) | HostPolicy::Default | HostPolicy::Local => Ok(()),
        }
    }

    fn check_file(&self) -> Result<(), SpecError> {
        let id = || self.id.clone();
        let BackendKind::File(file) = &self.kind else {
            return Ok(());
        };
        if let Some(align) = file.align
            && !(align.bytes().is_power_of_two() && align.is_multiple_of(PageSize::BASE))
        {
            return Err(SpecError::Align { id: id(), align });
        }
        if file.read_only && self.share == Some(true) {
            return Err(SpecError::ReadOnlyShared { id: id() });
        }
        Ok(())
    }

    /// Refuses what cannot work on `backend`, which this specification opened.
    ///
    /// # Errors
    /// As [`BackendSpec::check`].
    pub(crate) fn check_opened(&self, backend: &dyn Backend) -> Result<(), SpecError> {
        let (id, what) = (|| self.id.clone(), || backend.describe());
        let (size, page) = (self.size, backend.page_size());
        if !size.is_multiple_of(page) {
            return Err(SpecError::Size { id: id(), size, page });
        }
        if self.merge == MergeRequest::On && (backend.is_shared() || page.is_huge()) {
            return Err(SpecError::Merge {
                id: id(),
                what: what(),
            });
        }
        if self.thp == Thp::On && page.is_huge() {
            return Err(SpecError::HugeAnyway {
                id: id(),
                what: what(),
            });
        }
        if self.policy != HostPolicy::Default && backend.caches_disk() {
            return Err(SpecError::PolicyOfDisk {
                id: id(),
                policy: self.policy.name(),
                what: what(),
            });
        }
        Ok(())
    }

    /// The page size as far as it is known, and what keeps KSM away, if something does.
    fn promise(&self) -> (PageSize, Option<&'static str>) {
        match (&self.kind, self.share) {
            (BackendKind::Ram, None | Some(false)) => (PageSize::BASE, None),
            (BackendKind::Ram, Some(true)) | (BackendKind::Memfd { hugetlb: None, .. }, _) => {
                (PageSize::BASE, Some(SHARED))
            }
            (
                BackendKind::Memfd {
                    hugetlb: Some(page), ..
                },
                _,
            ) => (*page, Some("hugetlb memory")),
            (BackendKind::File(_), Some(true)) => (PageSize::BASE, Some("memory of a shared file")),
            // A directory is always shared, a file with a name is not.
            (BackendKind::File(_), None | Some(false)) => (PageSize::BASE, None),
        }
    }
}

const SHARED: &str = "shared memory";
