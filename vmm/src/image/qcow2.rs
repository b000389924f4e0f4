//! Disks in qcow2 images. The crate `imago` knows the format: where the bytes of the disk are in which file, and how room is made
//! for new ones. The bytes themselves go straight between file and guest memory, as those of a raw image.
//!
//! What is in the file is sound whenever the process is killed, between two requests and within one: at worst, clusters are lost
//! that nobody uses. Four things beside `imago`'s own order of its tables see to that: pointers to new tables wait for a flush of the
//! tables ([`ImageFile`]); clusters that were given up are on record as free before anything else may take them; so are blocks of
//! reference counts that were added; and images with snapshots are only read ([`header`]).

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::AsFd;

use devices::disk::space::{self, ZEROS};
use devices::disk::{DiskImage, Piece};
use imago::{FormatAccess, Mapping, ShallowMapping};
use memory::transfer;

use crate::host::image_file::ImageFile;

pub mod header;
mod pieces;

use header::Header;
use pieces::Pieces;

/// So many pointers to new tables wait at most.
const MOST_HELD: usize = 64;

/// An open image with the images under it.
pub struct Qcow2Image {
    image: FormatAccess<ImageFile>,
    /// Its own file, in which there are holes to make.
    file: File,
    header: Header,
    /// Up to here there are blocks of reference counts on record.
    counted: u64,
}

impl fmt::Debug for Qcow2Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Qcow2Image")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

/// What becomes of a range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nobody needs it.
    Unneeded,
    /// It reads as zeros; its room stays.
    Zeros,
    /// It reads as zeros and has no room.
    ZerosUnmapped,
}

impl Qcow2Image {
    /// An image in `file`, which is `len` bytes long.
    pub(super) fn new(image: FormatAccess<ImageFile>, file: File, header: Header, len: u64) -> Qcow2Image {
        Qcow2Image {
            image,
            file,
            counted: len.next_multiple_of(header.counted),
            header,
        }
    }

    /// Writes all tables to the file, without waiting for the disk.
    fn record(&mut self) -> io::Result<()> {
        self.image.flush()
    }

    /// Reads what is in one piece of a file, from `offset` on. Beyond its end there are zeros.
    fn read_file(file: &ImageFile, offset: u64, pieces: &[Piece<'_>]) -> io::Result<()> {
        match transfer::read_at(file.file().as_fd(), pieces, offset) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                let mut pieces = Pieces::new(pieces);
                let there = file.len()?.saturating_sub(offset);
                let front = pieces.take(there)?;
                transfer::read_at(file.file().as_fd(), &front, offset)?;
                pieces::zero(&pieces.take(u64::MAX)?);
                Ok(())
            }
            other => other,
        }
    }

    /// Makes the clusters of `start..end`, all of them whole or the disk's last, meet their fate.
    fn dispose(&mut self, start: u64, end: u64, fate: Fate) -> io::Result<()> {
        let mut given_up = Vec::new();
        let mut at = start;
        while at < end {
            let (mapping, len) = self.image.get_shallow_mapping(at, end - at)?;
            let (has_room, hole) = match mapping {
                ShallowMapping::Raw { offset, writable, .. } => (true, writable.then_some((offset, len))),
                ShallowMapping::Special { .. } => (true, None),
                ShallowMapping::Indirect { .. } => (false, None),
                ShallowMapping::Zero { .. } | ShallowMapping::Eof { .. } => {
                    at += len.max(1);
                    continue;
                }
                _ => return Err(ErrorKind::Unsupported.into()),
            };
            match fate {
                Fate::Unneeded if !has_room => {}
                Fate::Zeros if hole.is_some() => self.image.write_zeroes(at, len)?,
                Fate::Zeros | Fate::ZerosUnmapped | Fate::Unneeded => {
                    if !has_room {
                        // This may take a new table, and it may lie in what was given up.
                        self.settle(&mut given_up)?;
                    }
                    self.image.discard_to_zero(at, len)?;
                    if has_room {
                        given_up.push(hole);
                    }
                }
            }
            at += len;
        }
        self.settle(&mut given_up)
    }

    /// Puts clusters that were given up on record as free, and gives their room back to the host, as far as the file system can.
    fn settle(&mut self, given_up: &mut Vec<Option<(u64, u64)>>) -> io::Result<()> {
        if !given_up.is_empty() {
            self.record()?;
        }
        for (offset, len) in given_up.drain(..).flatten() {
            if !space::punch(&self.file, offset, len)? {
                break;
            }
        }
        Ok(())
    }

    /// Whole clusters within a range: the first one's beginning, and the last one's end.
    fn whole(&self, offset: u64, len: u64) -> Option<(u64, u64)> {
        let cluster = self.header.cluster;
        let end = match offset + len {
            end if end == self.header.size => end,
            end => end - end % cluster,
        };
        let start = offset.next_multiple_of(cluster);
        (start < end).then_some((start, end))
    }

    /// Zeros in a range that is no whole cluster.
    fn write_zero_bytes(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let mut at = offset;
        while at < offset + len {
            let part = (offset + len - at).min(ZEROS.len() as u64);
            let (mapping, len) = self.image.get_mapping(at, part)?;
            if !matches!(mapping, Mapping::Zero { .. }) {
                let len = usize::try_from(len).map_err(io::Error::other)?;
                self.image.write(&ZEROS[..len], at)?;
            }
            at += len;
        }
        Ok(())
    }
}

impl DiskImage for Qcow2Image {
    fn size(&self) -> u64 {
        self.header.size
    }

    fn read(&mut self, offset: u64, pieces: &[Piece<'_>]) -> io::Result<()> {
        let mut pieces = Pieces::new(pieces);
        let mut at = offset;
        while pieces.left() > 0 {
            let (mapping, len) = self.image.get_mapping(at, pieces.left())?;
            let len = match mapping {
                Mapping::Raw { storage, offset, .. } => {
                    Self::read_file(storage, offset, &pieces.take(len)?)?;
                    len
                }
                Mapping::Zero { .. } => {
                    pieces::zero(&pieces.take(len)?);
                    len
                }
                Mapping::Special { .. } => {
                    // Compressed: made readable one cluster at a time.
                    let len = len.min(self.header.cluster - at % self.header.cluster);
                    let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
                    self.image.read(&mut bytes, at)?;
                    pieces::copy(&bytes, &pieces.take(len)?);
                    len
                }
                Mapping::Eof { .. } => return Err(ErrorKind::UnexpectedEof.into()),
                _ => return Err(ErrorKind::Unsupported.into()),
            };
            at += len;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, pieces: &[Piece<'_>]) -> io::Result<()> {
        let cluster = self.header.cluster;
        let mut pieces = Pieces::new(pieces);
        let mut at = offset;
        while pieces.left() > 0 {
            let (before, len) = self.image.get_shallow_mapping(at, pieces.left())?;
            let gives_up = match before {
                ShallowMapping::Special { .. } => true,
                ShallowMapping::Raw { writable, .. } => !writable,
                // A cluster that was kept for it may not be where the one before it went.
                ShallowMapping::Zero { explicit, .. } => explicit && at % cluster + len > cluster,
                ShallowMapping::Indirect { .. } | ShallowMapping::Eof { .. } | _ => false,
            };
            let mapping = self.image.prepare_data_mapping(at, len, true)?;
            let (file, to, len) = (mapping.storage(), mapping.offset(), mapping.length());
            transfer::write_at(file.file().as_fd(), &pieces.take(len)?, to)?;
            let held = file.held();
            self.image.commit_data_mapping(mapping)?;
            let end = to + len;
            if gives_up || end > self.counted || held > MOST_HELD {
                self.record()?;
                self.counted = self.counted.max(end.next_multiple_of(self.header.counted));
            }
            at += len;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.record()?;
        self.image.sync()
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let Some((start, end)) = self.whole(offset, len).filter(|_| self.header.version > 2) else {
            return Ok(());
        };
        self.dispose(start, end, Fate::Unneeded)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        let fate = if unmap { Fate::ZerosUnmapped } else { Fate::Zeros };
        let end = offset + len;
        let whole = self.whole(offset, len).filter(|_| self.header.version > 2);
        let (first, last) = whole.unwrap_or((end, end));
        self.dispose(first, last, fate)?;
        self.write_zero_bytes(offset, first - offset)?;
        self.write_zero_bytes(last, end - last)?;
        self.record()
    }
}

#[cfg(test)]
mod tests;
