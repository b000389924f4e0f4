//! A memory backend as the user asks for it.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::policy::HostPolicy;
use crate::size::{ByteSize, PageSize};

/// One memory backend as the user asks for it. Plain data: nothing on the host was touched to make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendSpec {
    /// Its name in messages and answers.
    pub id: String,
    /// Where the pages come from.
    pub kind: BackendKind,
    /// Its size: a multiple of the page size, not 0.
    pub size: ByteSize,
    /// Whether the mapping is shared; `None`: the default of the kind (off for anonymous memory and files, on for memfd).
    /// What took effect is in [`crate::effective::Effective`]: memory of a directory is always mapped shared.
    pub share: Option<bool>,
    /// Whether the host accounts the memory at start; `None`: huge pages do, other memory only with `prealloc`.
    pub reserve: Option<bool>,
    /// Whether all pages are provided, and when.
    pub prealloc: Prealloc,
    /// Threads of the preallocation; `None`: one for each CPU that may be used, and one alone beside a guest that runs.
    pub prealloc_threads: Option<NonZeroUsize>,
    /// Whether KSM may merge the pages.
    pub merge: MergeRequest,
    /// Whether the host may use transparent huge pages.
    pub thp: Thp,
    /// Whether the pages stay in RAM once they are there.
    pub lock: Lock,
    /// The host nodes.
    pub policy: HostPolicy,
    /// Whether pages elsewhere than the policy wants are an error at the start, and not a warning.
    pub strict: bool,
    /// Whether core dumps of the VMM hold the memory.
    pub dump: bool,
    /// The guest's node that it is the memory of.
    pub guest_node: u32,
}

impl BackendSpec {
    /// `size` bytes of `kind` named `id`, all else as by default.
    pub fn new(id: impl Into<String>, kind: BackendKind, size: ByteSize) -> Self {
        Self {
            id: id.into(),
            kind,
            size,
            share: None,
            reserve: None,
            prealloc: Prealloc::Off,
            prealloc_threads: None,
            merge: MergeRequest::Off,
            thp: Thp::Default,
            lock: Lock::Off,
            policy: HostPolicy::Default,
            strict: false,
            dump: true,
            guest_node: 0,
        }
    }

    /// Whether the host accounts for the memory at start, where its pages have this size.
    #[must_use]
    pub fn reserves(&self, page: PageSize) -> bool {
        self.reserve.unwrap_or(self.prealloc.wanted() || page.is_huge())
    }
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
        /// Whether its size is sealed (fcntl(2), `F_SEAL_GROW` and `F_SEAL_SHRINK`).
        seal: bool,
    },
    /// A file: an unlinked one in a directory, or one with a name.
    File(FileSpec),
}

impl BackendKind {
    /// A sealed memfd; `hugetlb`: with pages of this size from a pool.
    #[must_use]
    pub const fn memfd(hugetlb: Option<PageSize>) -> Self {
        Self::Memfd { hugetlb, seal: true }
    }

    /// A file at `path`, or in it where it is a directory.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self::File(FileSpec::new(path))
    }
}

/// What a backend of a file is asked for besides what all are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileSpec {
    /// A directory on hugetlbfs or tmpfs, or a file on any file system, which is made where it is not there.
    pub path: PathBuf,
    /// Where the guest's RAM begins in a file with a name.
    pub offset: ByteSize,
    /// What host and guest addresses agree modulo, where that is more than 2 MiB or the page.
    pub align: Option<ByteSize>,
    /// Whether a file with a name is only read. The guest then has a private copy of what it changes.
    pub read_only: bool,
    /// Whether what the file with a name holds may be lost: releases punch holes into it, and the end empties it.
    pub discard: bool,
}

impl FileSpec {
    /// A file at `path`, or in it where it is a directory, all else as by default.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            offset: ByteSize::ZERO,
            align: None,
            read_only: false,
            discard: false,
        }
    }
}

/// Whether the host provides all pages of a backend before the guest asks for them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Prealloc {
    /// Pages come when the guest touches them.
    #[default]
    Off,
    /// All are there before the guest starts.
    On,
    /// The guest starts, and what it has not touched nor given back is provided beside it.
    Background,
}

impl Prealloc {
    /// Whether all pages are wanted, sooner or later.
    #[must_use]
    pub const fn wanted(self) -> bool {
        matches!(self, Self::On | Self::Background)
    }

    /// `off`, `on` or `background`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Background => "background",
        }
    }
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

/// Whether the host may back a mapping by transparent huge pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Thp {
    /// They are welcome where the host has them.
    #[default]
    Default,
    /// The user typed `thp=on`: where they cannot be used there is an error.
    On,
    /// Never.
    Off,
}

/// Whether the pages of a backend stay in RAM (mlock2(2)). Pages of a hugetlb pool always do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lock {
    /// They may be swapped out.
    #[default]
    Off,
    /// All are there from the start, and stay.
    On,
    /// They stay once the guest has touched them.
    OnFault,
}
