//! Where guest memory comes from: what the user asks for, and what each kind of backend can do.

mod anon;
mod check;
mod file;
mod memfd;

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use thiserror::Error;

use crate::mapping::{Mapping, Span};
use crate::size::{ByteSize, PageSize};

pub use crate::host::numa::NodeSet;
pub use crate::policy::HostPolicy;
pub use check::SpecError;

/// One memory backend as the user asks for it. Plain data: nothing on the host was touched to make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// Its name in messages and answers.
    pub id: String,
    /// Where the pages come from.
    pub kind: BackendKind,
    /// Its size: a multiple of the page size, not 0.
    pub size: ByteSize,
    /// Whether the mapping is shared; `None`: the default of the kind (off for anonymous memory and directories, on for memfd).
    /// What took effect is in [`crate::effective::Effective`]: memory of a file is always mapped shared.
    pub share: Option<bool>,
    /// Whether the host accounts the memory at start; `None`: huge pages do, other memory only with `prealloc`.
    pub reserve: Option<bool>,
    /// Whether all pages are provided at start.
    pub prealloc: bool,
    /// Threads of the preallocation; `None`: one for each CPU that may be used.
    pub prealloc_threads: Option<NonZeroUsize>,
    /// Whether KSM may merge the pages.
    pub merge: MergeRequest,
    /// The host nodes.
    pub policy: HostPolicy,
    /// Whether core dumps of the VMM hold the memory.
    pub dump: bool,
}

/// The kinds of backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackendKind {
    /// Anonymous memory; with `share=on` a memfd.
    Ram,
    /// A memfd.
    Memfd {
        /// The size of its pages where they come from a hugetlb pool.
        hugetlb: Option<PageSize>,
    },
    /// An unlinked file in a directory on hugetlbfs or tmpfs.
    File {
        /// The directory.
        path: PathBuf,
    },
}

/// Whether KSM may merge the pages of a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeRequest {
    /// The user typed `merge=off`, or nothing.
    Off,
    /// From `-machine mem-merge=`: where it cannot take effect there is a warning.
    Default(bool),
    /// The user typed `merge=on`: where it cannot take effect there is an error.
    On,
}

impl MergeRequest {
    /// Whether merging is wanted at all.
    #[must_use]
    pub fn wanted(self) -> bool {
        matches!(self, Self::On | Self::Default(true))
    }
}

/// What a release did, in bytes. The parts add up to what was asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Whole backend pages whose call succeeded. That is not yet "freed": a page may not have been there.
    pub discarded: u64,
    /// In a backend that gives nothing back.
    pub refused: u64,
    /// The kernel's call failed.
    pub failed: u64,
    /// Not RAM.
    pub outside: u64,
    /// Parts of backend pages that were not given whole.
    pub rounded: u64,
}

impl std::ops::AddAssign for Released {
    fn add_assign(&mut self, other: Self) {
        self.discarded += other.discarded;
        self.refused += other.refused;
        self.failed += other.failed;
        self.outside += other.outside;
        self.rounded += other.rounded;
    }
}

/// Why a backend cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// No memfd.
    #[error("cannot create a memfd with pages of {page}")]
    CreateMemfd {
        /// The page size asked for.
        page: PageSize,
        /// What the kernel said.
        source: io::Error,
    },
    /// The directory cannot be looked at.
    #[error("cannot open mem-path '{}'", path.display())]
    OpenDirectory {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Something else than a directory.
    #[error("mem-path '{}' is not a directory: name a directory on hugetlbfs or tmpfs", path.display())]
    NotDirectory {
        /// What was named.
        path: PathBuf,
    },
    /// A directory whose files are not memory.
    #[error(
        "mem-path '{}' is on a file system of type {kind:#x}: name a directory on hugetlbfs (as /dev/hugepages) or tmpfs \
         (as /dev/shm)",
        path.display()
    )]
    FileSystem {
        /// The directory.
        path: PathBuf,
        /// The type that statfs(2) gives.
        kind: u64,
    },
    /// A hugetlbfs with pages that this architecture does not have.
    #[error("mem-path '{}' has pages of {bytes} bytes, which x86-64 does not have", path.display())]
    PageSize {
        /// The directory.
        path: PathBuf,
        /// The size of its pages.
        bytes: u64,
    },
    /// No file in the directory.
    #[error("cannot create a file in mem-path '{}'", path.display())]
    CreateFile {
        /// The directory.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

/// An opened source of guest memory.
///
/// Only the code that opened the memory knows how it is mapped, how large its pages are and which call gives them back. So no
/// method has a default, and a backend without a `release` does not compile.
pub trait Backend: Send + Sync + fmt::Debug {
    /// Opens what `spec` names, without taking memory.
    ///
    /// # Errors
    /// [`OpenError`] when the host does not have it.
    fn open(spec: &BackendSpec) -> Result<Self, OpenError>
    where
        Self: Sized;

    /// What it is, for people: `anonymous`, `hugetlb memfd`, `file in /dev/shm`.
    fn describe(&self) -> String;

    /// The pages that it gives and takes back.
    fn page_size(&self) -> PageSize;

    /// Whether its memory is mapped shared, so that KSM cannot merge it.
    fn is_shared(&self) -> bool;

    /// Maps `size` bytes that the guest will see at `guest_start`; `reserve`: account for them now.
    ///
    /// # Errors
    /// What the kernel says.
    fn map(&self, size: ByteSize, guest_start: u64, reserve: bool) -> io::Result<Mapping>;

    /// Gives the whole pages inside `spans` back to the host. The spans are sorted and apart from each other, lie in
    /// `mapping`, which is this backend's, and are used up: what the vector holds afterwards means nothing. Reads give
    /// zeroes afterwards.
    fn release(&self, mapping: &Mapping, spans: &mut Vec<Span>) -> Released;

    /// What the host holds now for `mapping`.
    ///
    /// # Errors
    /// When /proc or the file cannot be read.
    fn resident(&self, mapping: &Mapping) -> io::Result<ByteSize>;

    /// Bytes that the file system of the backend has left, where it can have fewer than the host.
    fn room(&self) -> Option<ByteSize>;
}

/// Opens the backend that `spec` names.
///
/// # Errors
/// [`OpenError`] when the host does not have it.
pub(crate) fn open(spec: &BackendSpec) -> Result<Box<dyn Backend>, OpenError> {
    Ok(match (&spec.kind, spec.share) {
        (BackendKind::Ram, None | Some(false)) => Box::new(anon::Anonymous::open(spec)?),
        (BackendKind::Ram, Some(true)) | (BackendKind::Memfd { .. }, _) => {
            Box::new(memfd::Memfd::open(spec)?)
        }
        (BackendKind::File { .. }, _) => Box::new(file::Directory::open(spec)?),
    })
}

/// How far the start of a backend has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenStage {
    /// The memory is mapped.
    Mapped,
    /// The hints are given.
    Hinted,
    /// The policy is set.
    Bound,
    /// Half of the pages are there. Only with `prealloc`, as the next.
    PreallocHalf,
    /// All pages are there.
    Preallocated,
    /// What took effect was read back.
    Verified,
}

/// Who hears how the start goes on. Called from several threads at once.
pub trait OpenObserver: Sync {
    /// `backend` has reached `stage`.
    fn stage(&self, backend: &str, stage: OpenStage);
    /// `done` of `total` of `backend` are there.
    fn prealloc(&self, backend: &str, done: ByteSize, total: ByteSize);
}

/// Nobody listens.
impl OpenObserver for () {
    fn stage(&self, _backend: &str, _stage: OpenStage) {}
    fn prealloc(&self, _backend: &str, _done: ByteSize, _total: ByteSize) {}
}

#[cfg(test)]
mod tests;
