//! An unlinked file in a directory on hugetlbfs or tmpfs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

use super::place::{self, Place};
use super::{Backend, FileSpec, Held, Lack, OpenError, Released};
use crate::mapping::{MapFile, MapRequest, Mapping, Span};
use crate::release::{held_by, shared_pages};
use crate::size::{ByteSize, PageSize};

/// A file that has no name, so that the kernel takes its pages back when the process ends, however it ends. Always mapped
/// shared: nobody else can open it.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    file: OwnedFd,
    place: Place,
    align: Option<ByteSize>,
}

impl Directory {
    /// An empty file in the directory that `spec` names.
    pub(super) fn open(spec: &FileSpec) -> Result<Self, OpenError> {
        let path = spec.path.clone();
        let directory = open_directory(&path)?;
        check(spec)?;
        let place = Place::of(&path, &directory)?;
        if let Place::Disk(kind) = place {
            return Err(OpenError::FileSystem { path, kind });
        }
        let file = unnamed_file(&directory).map_err(|source| OpenError::CreateFile {
            path: path.clone(),
            source: source.into(),
        })?;
        Ok(Self {
            path,
            file,
            place,
            align: spec.align,
        })
    }
}

impl Backend for Directory {
    fn describe(&self) -> String {
        format!("{} in {}", self.place.name(), self.path.display())
    }

    fn page_size(&self) -> PageSize {
        self.place.page()
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
            page: self.page_size(),
            align: self.align,
            guest_start,
            file: Some(MapFile::own(self.file.as_fd())),
            reserve,
        };
        rustix::fs::ftruncate(&self.file, request.file_size())?;
        Mapping::new(&request)
    }

    fn started(&self) {}

    fn release(&self, mapping: &Mapping, spans: &mut Vec<Span>) -> Released {
        shared_pages(mapping, spans, self.page_size(), self.file.as_fd())
    }

    fn held(&self, _mapping: &Mapping) -> io::Result<Held> {
        held_by(&self.file).map(Held::InFile)
    }

    fn room(&self) -> Option<ByteSize> {
        place::room(&self.file)
    }

    fn lack(&self) -> Option<Lack> {
        place::full(&self.file, self.place)
    }
}

fn open_directory(path: &Path) -> Result<OwnedFd, OpenError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(|source| OpenError::OpenPath {
        path: path.to_owned(),
        source: source.into(),
    })
}

/// Refuses what has no meaning for a file that nobody else can open.
fn check(spec: &FileSpec) -> Result<(), OpenError> {
    let named = [
        ("offset=", spec.offset != ByteSize::ZERO),
        ("readonly=on", spec.read_only),
    ];
    match named.into_iter().find(|(_, given)| *given) {
        Some((property, _)) => Err(OpenError::ForNamedFiles {
            property,
            path: spec.path.clone(),
        }),
        None => Ok(()),
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
