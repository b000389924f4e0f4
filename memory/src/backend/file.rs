//! An unlinked file in a directory on hugetlbfs or tmpfs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::{Backend, BackendKind, BackendSpec, OpenError, Released};
use crate::mapping::{Advice, MapRequest, Mapping, Span};
use crate::release::{held_by, whole_pages};
use crate::size::{ByteSize, PageSize};

/// `TMPFS_MAGIC` of linux/magic.h.
const TMPFS: u64 = 0x0102_1994;
/// `HUGETLBFS_MAGIC` of linux/magic.h.
const HUGETLBFS: u64 = 0x9584_58f6;

/// A file that has no name, so that the kernel takes its pages back when the process ends, however it ends. Always mapped
/// shared: nobody else can open it.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    file: OwnedFd,
    page: PageSize,
}

impl Backend for Directory {
    fn open(spec: &BackendSpec) -> Result<Self, OpenError> {
        let path = match &spec.kind {
            BackendKind::File { path } => path.clone(),
            BackendKind::Ram | BackendKind::Memfd { .. } => PathBuf::new(),
        };
        let directory = open_directory(&path)?;
        let page = page_size(&path, &directory)?;
        let file = unnamed_file(&directory).map_err(|source| OpenError::CreateFile {
            path: path.clone(),
            source: source.into(),
        })?;
        Ok(Self { path, file, page })
    }

    fn describe(&self) -> String {
        let system = if self.page.is_huge() { "hugetlbfs" } else { "tmpfs" };
        format!("{system} file in {}", self.path.display())
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
        Mapping::new(&request)
    }

    fn release(&self, mapping: &Mapping, spans: &mut Vec<Span>) -> Released {
        whole_pages(mapping, spans, self.page, Advice::Remove)
    }

    fn resident(&self, _mapping: &Mapping) -> io::Result<ByteSize> {
        held_by(&self.file)
    }

    fn room(&self) -> Option<ByteSize> {
        let state = rustix::fs::fstatfs(&self.file).ok()?;
        // A file system without a limit says that it has no blocks at all.
        if state.f_blocks == 0 {
            return None;
        }
        let block = u64::try_from(state.f_bsize).ok()?;
        Some(ByteSize::from_bytes(state.f_bavail.saturating_mul(block)))
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, OpenError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|source| match source {
        Errno::NOTDIR if path.exists() => OpenError::NotDirectory {
            path: path.to_owned(),
        },
        source => OpenError::OpenDirectory {
            path: path.to_owned(),
            source: source.into(),
        },
    })
}

/// The pages of the file system: statfs(2) gives a hugetlbfs its page as block size.
fn page_size(path: &Path, directory: &OwnedFd) -> Result<PageSize, OpenError> {
    let state = rustix::fs::fstatfs(directory).map_err(|source| OpenError::OpenDirectory {
        path: path.to_owned(),
        source: source.into(),
    })?;
    match u64::try_from(state.f_type).unwrap_or(0) {
        TMPFS => Ok(PageSize::BASE),
        HUGETLBFS => {
            let bytes = u64::try_from(state.f_bsize).unwrap_or(0);
            PageSize::from_bytes(bytes).ok_or_else(|| OpenError::PageSize {
                path: path.to_owned(),
                bytes,
            })
        }
        kind => Err(OpenError::FileSystem {
            path: path.to_owned(),
            kind,
        }),
    }
}

/// A file without a name; where the file system cannot make one, a file whose name is gone at once.
fn unnamed_file(directory: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let mode = Mode::RUSR | Mode::WUSR;
    let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL;
    match rustix::fs::openat(directory, ".", flags | OFlags::TMPFILE, mode) {
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
        result => return result,
    }
    let process = rustix::process::getpid().as_raw_nonzero();
    let mut attempt = 0_u32;
    loop {
        let name = format!(".ballast-{process}-{attempt}");
        match rustix::fs::openat(directory, name.as_str(), flags | OFlags::CREATE, mode) {
            Ok(file) => {
                rustix::fs::unlinkat(directory, name.as_str(), AtFlags::empty())?;
                return Ok(file);
            }
            // Left by a process of the same number that was killed between the two calls.
            Err(Errno::EXIST) if attempt < 100 => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
