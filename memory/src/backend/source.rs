//! Where the pages of a backend come from, known before it is opened.

use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};

use super::place::Place;
use super::{BackendKind, BackendSpec};
use crate::size::PageSize;

/// What the host gives pages from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Its memory, or swap.
    Memory,
    /// The pool of huge pages of this size.
    Pool(PageSize),
    /// Memory that it can have back at any time: the cache of a file on a disk.
    Cache,
}

impl Source {
    /// The pages.
    #[must_use]
    pub const fn page(self) -> PageSize {
        match self {
            Self::Pool(page) => page,
            Self::Memory | Self::Cache => PageSize::BASE,
        }
    }
}

/// Where the pages of `spec` will come from. Opens and makes nothing; what cannot be found out is taken for memory, and fails
/// when it is opened.
pub(crate) fn source(spec: &BackendSpec) -> Source {
    match &spec.kind {
        BackendKind::Memfd {
            hugetlb: Some(page), ..
        } => Source::Pool(*page),
        BackendKind::Ram | BackendKind::Memfd { hugetlb: None, .. } => Source::Memory,
        BackendKind::File(file) => match (place(&file.path), spec.share) {
            (Some(Place::Hugetlbfs(page)), _) => Source::Pool(page),
            (Some(Place::Disk(_)), Some(true)) => Source::Cache,
            // A private mapping has a copy of each page that the guest changes.
            (Some(Place::Tmpfs | Place::Disk(_)) | None, _) => Source::Memory,
        },
    }
}

/// The file system of a path, or of where it will be made.
fn place(path: &Path) -> Option<Place> {
    let open =
        |path: &Path| rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok();
    let around = || match path.parent() {
        Some(around) if around.as_os_str().is_empty() => open(Path::new(".")),
        around => open(around?),
    };
    Place::of(path, open(path).or_else(around)?).ok()
}
