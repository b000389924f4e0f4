//! Where guest memory comes from: what the user asks for, and what each kind of backend can do.

mod anon;
mod check;
mod directory;
mod error;
mod footprint;
mod lack;
mod memfd;
mod named;
mod place;
mod source;
mod spec;

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use crate::mapping::{Mapping, Span};
use crate::size::{ByteSize, PageSize};

pub use crate::host::numa::NodeSet;
pub use crate::policy::{HostPolicy, Placing};
pub use check::SpecError;
pub use error::OpenError;
pub use lack::{Cut, Lack};
pub use source::Source;
pub(crate) use source::source;
pub use spec::{BackendKind, BackendSpec, FileSpec, Lock, MergeRequest, Prealloc, Thp};

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

/// What the host holds for a mapping, as far as its backend can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// What is mapped, and no more.
    Mapped,
    /// So much is in RAM.
    InRam(ByteSize),
    /// A file in memory has so much, of which some may be swapped out.
    InFile(ByteSize),
}

/// An opened source of guest memory.
///
/// Only the code that opened the memory knows how it is mapped, how large its pages are and which call gives them back. So no
/// method has a default, and a backend without a `release` does not compile.
pub trait Backend: Send + Sync + fmt::Debug {
    /// What it is, for people: `anonymous`, `hugetlb memfd`, `file in /dev/shm`.
    fn describe(&self) -> String;

    /// The pages that it gives and takes back.
    fn page_size(&self) -> PageSize;

    /// Whether its memory is mapped shared, so that KSM cannot merge it.
    fn is_shared(&self) -> bool;

    /// The file behind it, where another process that maps it has the same memory as the guest; `None` where nobody else can.
    fn shared_file(&self) -> Option<BorrowedFd<'_>>;

    /// Whether its pages are the cache of a file on a disk: no NUMA policy places them, and the host reads and writes them.
    fn caches_disk(&self) -> bool;

    /// Why its memory never goes back to the host while the guest runs; `None` where it does.
    fn keeps(&self) -> Option<&'static str>;

    /// Maps `size` bytes that the guest will see at `guest_start`; `reserve`: account for them now.
    ///
    /// # Errors
    /// What the kernel says.
    fn map(&self, size: ByteSize, guest_start: u64, reserve: bool) -> io::Result<Mapping>;

    /// The start has come to its end: what was made for it stays. A backend that goes before leaves nothing behind.
    fn started(&self);

    /// Gives the whole pages inside `spans` back to the host. The spans are sorted and apart from each other, lie in
    /// `mapping`, which is this backend's, and are used up: what the vector holds afterwards means nothing. Reads give
    /// zeroes afterwards.
    fn release(&self, mapping: &Mapping, spans: &mut Vec<Span>) -> Released;

    /// What the host holds now for `mapping`, mapped or not.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn held(&self, mapping: &Mapping) -> io::Result<Held>;

    /// Bytes that the file system of the backend has left, where it can have fewer than the host.
    fn room(&self) -> Option<ByteSize>;

    /// Why the file behind it, or its file system, cannot supply a page now. What it says of losses is true to the last time
    /// that it was asked.
    fn lack(&self) -> Option<Lack> {
        None
    }

    /// Somebody knows that data of the guest was lost, and goes on without it.
    fn accept_loss(&self) {}
}

/// Opens the backend that `spec` names, without taking memory.
///
/// # Errors
/// [`OpenError`] when the host does not have it.
pub(crate) fn open(spec: &BackendSpec) -> Result<Box<dyn Backend>, OpenError> {
    Ok(match (&spec.kind, spec.share) {
        (BackendKind::Ram, None | Some(false)) => Box::new(anon::Anonymous),
        (BackendKind::Ram, Some(true)) => Box::new(memfd::Memfd::open(PageSize::BASE, true)?),
        (BackendKind::Memfd { hugetlb, seal }, _) => {
            Box::new(memfd::Memfd::open(hugetlb.unwrap_or(PageSize::BASE), *seal)?)
        }
        (BackendKind::File(file), _) if file.path.is_dir() => Box::new(directory::Directory::open(file)?),
        (BackendKind::File(file), share) => {
            Box::new(named::Named::open(file, spec.size, share.unwrap_or(false))?)
        }
    })
}

/// Whether another process could map the memory that `spec` describes; [`Backend::shared_file`] knows once it is open.
#[must_use]
pub fn is_shareable(spec: &BackendSpec) -> bool {
    match &spec.kind {
        BackendKind::Ram => spec.share == Some(true),
        BackendKind::Memfd { .. } => true,
        BackendKind::File(file) => spec.share == Some(true) || file.path.is_dir(),
    }
}

/// How far the start of a backend has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpenStage {
    /// The memory is mapped.
    Mapped,
    /// The hints are given.
    Hinted,
    /// The policy is set, and the memory locked where that was asked.
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
