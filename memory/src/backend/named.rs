//! A file with a name: on a disk, on tmpfs or on hugetlbfs.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::footprint::{Footprint, Tells};
use super::place::{self, Place};
use super::{Backend, Cut, FileSpec, Held, Lack, OpenError, Released};
use crate::mapping::{MapFile, MapRequest, Mapping, Span};
use crate::release::{held_by, shared_pages};
use crate::size::{ByteSize, PageSize};

/// Why private memory of a file stays. A DONTNEED would bring the file's old bytes back, and a mapping over each hole would
/// exhaust `vm.max_map_count` and drop the policy.
const PRIVATE: &str = "with share=off a page given back would show the file's old bytes: use share=on";
/// Why a file on a disk stays.
const NOT_TO_DISCARD: &str = "a page given back is lost in the file: discard-data=on allows that";

/// A file that others may know.
#[derive(Debug)]
pub(super) struct Named {
    spec: FileSpec,
    file: OwnedFd,
    place: Place,
    shared: bool,
    size: ByteSize,
    footprint: Mutex<Footprint>,
    undo: Undo,
    /// The start has come to its end.
    started: AtomicBool,
}

/// How a file was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undo {
    Missing,
    Empty,
    Unchanged,
}

impl Drop for Named {
    /// A start that failed leaves the file as it was; an end with `discard-data=on` leaves it without bytes of the guest.
    fn drop(&mut self) {
        let done = match (self.started.load(Ordering::Relaxed), self.undo) {
            (false, Undo::Missing) => self.unlink(),
            (false, Undo::Empty) => rustix::fs::ftruncate(&self.file, 0),
            (true, _) if self.spec.discard => {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(&self.file, flags, self.spec.offset.bytes(), self.size.bytes())
            }
            (false, Undo::Unchanged) | (true, _) => Ok(()),
        };
        if let Err(error) = done {
            tracing::warn!("file '{}' keeps its bytes: {error}", self.spec.path.display());
        }
    }
}

impl Named {
    /// The file that `spec` names, with room for `size` bytes. One that is not there or empty gets its size; one with bytes
    /// in it must have enough of them.
    pub(super) fn open(spec: &FileSpec, size: ByteSize, shared: bool) -> Result<Self, OpenError> {
        let (file, undo) = open_file(spec)?;
        let mut this = Self {
            spec: spec.clone(),
            file,
            place: Place::Tmpfs,
            shared,
            size,
            footprint: Mutex::new(Footprint::new(0, 0, Tells::Holes)),
            undo,
            started: AtomicBool::new(false),
        };
        this.place = Place::of(&spec.path, &this.file)?;
        this.check()?;
        this.make_room()?;
        let tells = match this.place {
            _ if !shared => Tells::Nothing,
            Place::Hugetlbfs(_) => Tells::Blocks,
            Place::Tmpfs | Place::Disk(_) => Tells::Holes,
        };
        let footprint = Footprint::new(spec.offset.bytes(), size.bytes(), tells);
        this.footprint = Mutex::new(footprint);
        Ok(this)
    }

    fn check(&self) -> Result<(), OpenError> {
        let Self { spec, place, .. } = self;
        if spec.discard && !self.shared {
            return Err(OpenError::DiscardPrivate);
        }
        if *place == Place::Tmpfs && !self.shared && !spec.read_only {
            return Err(OpenError::PrivateTmpfs {
                path: spec.path.clone(),
            });
        }
        if !spec.offset.is_multiple_of(place.page()) {
            return Err(OpenError::Offset {
                path: spec.path.clone(),
                offset: spec.offset,
                page: place.page(),
            });
        }
        Ok(())
    }

    /// A file without bytes gets its size, which takes nothing yet; one with bytes must have enough of them.
    fn make_room(&mut self) -> Result<(), OpenError> {
        let found = self.found().map_err(|source| OpenError::OpenPath {
            path: self.spec.path.clone(),
            source,
        })?;
        let (offset, size) = (self.spec.offset, self.size);
        let needed = ByteSize::from_bytes(offset.bytes().saturating_add(size.bytes()));
        if found == ByteSize::ZERO && !self.spec.read_only {
            if self.undo == Undo::Unchanged {
                self.undo = Undo::Empty;
            }
            return rustix::fs::ftruncate(&self.file, needed.bytes()).map_err(|source| {
                OpenError::CreateFile {
                    path: self.spec.path.clone(),
                    source: source.into(),
                }
            });
        }
        if found < needed {
            return Err(OpenError::FileTooSmall {
                path: self.spec.path.clone(),
                found,
                offset,
                size,
                needed,
            });
        }
        Ok(())
    }

    /// Takes the name away, unless somebody has given it to another file.
    fn unlink(&self) -> rustix::io::Result<()> {
        let id = |stat: Stat| (stat.st_dev, stat.st_ino);
        let named = rustix::fs::statat(CWD, &self.spec.path, AtFlags::SYMLINK_NOFOLLOW)?;
        if id(named) != id(rustix::fs::fstat(&self.file)?) {
            return Ok(());
        }
        rustix::fs::unlinkat(CWD, &self.spec.path, AtFlags::empty())
    }

    /// Held for a look at the file, and for moments otherwise.
    fn footprint(&self) -> MutexGuard<'_, Footprint> {
        self.footprint.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether somebody cut it.
    fn cut(&self) -> Option<Cut> {
        let cut = self.footprint().look(&self.file);
        cut.inspect_err(|error| tracing::debug!("cannot look at the file: {error}"))
            .ok()
            .flatten()
    }

    /// Its size now.
    fn found(&self) -> io::Result<ByteSize> {
        let size = rustix::fs::fstat(&self.file)?.st_size;
        Ok(ByteSize::from_bytes(u64::try_from(size).unwrap_or(0)))
    }

    /// Whether what the file holds is what the host holds for us: all of it is ours, and none of it on a disk.
    fn is_all_memory(&self) -> bool {
        let whole = self.found().is_ok_and(|found| found == self.size);
        whole && !self.caches_disk()
    }
}

impl Backend for Named {
    fn describe(&self) -> String {
        let private = if self.shared { "" } else { "private memory of " };
        format!("{private}{} {}", self.place.name(), self.spec.path.display())
    }

    fn page_size(&self) -> PageSize {
        self.place.page()
    }

    fn is_shared(&self) -> bool {
        self.shared
    }

    fn shared_file(&self) -> Option<BorrowedFd<'_>> {
        self.shared.then(|| self.file.as_fd())
    }

    fn caches_disk(&self) -> bool {
        matches!(self.place, Place::Disk(_))
    }

    fn keeps(&self) -> Option<&'static str> {
        match (self.shared, self.place) {
            (false, _) => Some(PRIVATE),
            (true, Place::Disk(_)) if !self.spec.discard => Some(NOT_TO_DISCARD),
            (true, _) => None,
        }
    }

    fn map(&self, size: ByteSize, guest_start: u64, reserve: bool) -> io::Result<Mapping> {
        Mapping::new(&MapRequest {
            size,
            page: self.page_size(),
            align: self.spec.align,
            guest_start,
            file: Some(MapFile {
                fd: self.file.as_fd(),
                offset: Some(self.spec.offset.bytes()),
                private: !self.shared,
            }),
            reserve,
        })
    }

    fn started(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    fn release(&self, mapping: &Mapping, spans: &mut Vec<Span>) -> Released {
        match self.keeps() {
            Some(_) => Released {
                refused: spans.iter().map(|span| span.len).sum(),
                ..Released::default()
            },
            None => {
                for span in spans.iter() {
                    self.footprint().given_back(span.offset, span.len);
                }
                shared_pages(mapping, spans, self.page_size(), self.file.as_fd())
            }
        }
    }

    fn held(&self, mapping: &Mapping) -> io::Result<Held> {
        match (self.shared, self.is_all_memory()) {
            (true, true) => held_by(&self.file).map(Held::InFile),
            (true, false) => Ok(place::cached(mapping, &self.file).map_or(Held::Mapped, Held::InRam)),
            (false, _) => Ok(Held::Mapped),
        }
    }

    fn room(&self) -> Option<ByteSize> {
        // Private memory takes nothing in the file, and what the file has already is not taken again.
        let left = self.shared.then(|| place::room(&self.file)).flatten()?;
        let held = held_by(&self.file).unwrap_or_default();
        Some(ByteSize::from_bytes(left.bytes().saturating_add(held.bytes())))
    }

    fn lack(&self) -> Option<Lack> {
        let full = || place::full(&self.file, self.place).filter(|_| self.shared);
        self.cut().map(Lack::Cut).or_else(full)
    }

    fn accept_loss(&self) {
        if let Err(error) = self.footprint().accept_loss(&self.file) {
            tracing::debug!("cannot look at the file: {error}");
        }
    }
}

/// Opens the file; makes it where it is not there and may be written.
fn open_file(spec: &FileSpec) -> Result<(OwnedFd, Undo), OpenError> {
    let path = || spec.path.clone();
    // Not to wait for the other end of a pipe.
    let common = OFlags::CLOEXEC | OFlags::NONBLOCK;
    let open = |flags| rustix::fs::openat(CWD, &spec.path, flags | common, Mode::RUSR | Mode::WUSR);
    let opened = match spec.read_only {
        true => open(OFlags::RDONLY).map_err(|source| OpenError::Template {
            path: path(),
            source: source.into(),
        }),
        false => match open(OFlags::RDWR | OFlags::CREATE | OFlags::EXCL) {
            Ok(file) => return Ok((file, Undo::Missing)),
            Err(Errno::EXIST) => open(OFlags::RDWR).map_err(|source| OpenError::OpenPath {
                path: path(),
                source: source.into(),
            }),
            Err(source) => Err(OpenError::CreateFile {
                path: path(),
                source: source.into(),
            }),
        },
    }?;
    let regular = rustix::fs::fstat(&opened)
        .is_ok_and(|state| FileType::from_raw_mode(state.st_mode) == FileType::RegularFile);
    match regular {
        true => Ok((opened, Undo::Unchanged)),
        false => Err(OpenError::NotFile { path: path() }),
    }
}

#[cfg(test)]
mod tests;
