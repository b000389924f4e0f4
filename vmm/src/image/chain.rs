//! An image and those under it, each opened and locked.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use devices::disk::{RawImage, SECTOR};
use imago::qcow2::Qcow2;
use imago::raw::Raw;
use imago::{DenyImplicitOpenGate, FormatAccess, FormatDriverBuilder};
use memory::size::ByteSize;

use super::error::{BackingError, ImageError};
use super::qcow2::Qcow2Image;
use super::qcow2::header::{Backing, Header, MOST_BYTES};
use crate::cli::disk::ImageFormat;
use crate::host::image_file::ImageFile;
use crate::host::image_lock;

/// So many images may lie upon each other.
pub(super) const MOST_LAYERS: usize = 32;

/// The images of a drive, as they are opened.
pub(super) struct Chain<'a> {
    id: &'a str,
    /// Device and inode of each.
    seen: Vec<(u64, u64)>,
    paths: Vec<PathBuf>,
}

impl<'a> Chain<'a> {
    /// No image yet, for the drive `id`.
    pub(super) fn new(id: &'a str) -> Chain<'a> {
        Chain {
            id,
            seen: Vec::new(),
            paths: Vec::new(),
        }
    }

    /// The files that were opened, from the top.
    pub(super) fn into_paths(self) -> Vec<PathBuf> {
        self.paths
    }

    pub(super) fn raw(&mut self, path: &Path, read_only: bool) -> Result<RawImage, ImageError> {
        let file = self.file(path, read_only)?;
        let size = size(&file).map_err(|source| self.unreadable(path, read_only, source))?;
        if size == 0 || !size.is_multiple_of(SECTOR) {
            let hint = match size.next_multiple_of(SECTOR) {
                0 => "; 'truncate -s SIZE' gives it one".to_owned(),
                whole => format!("; 'truncate -s {whole}' makes it one"),
            };
            return Err(ImageError::Size {
                id: self.id.to_owned(),
                path: path.to_owned(),
                size: ByteSize::from_bytes(size),
                hint,
            });
        }
        Ok(RawImage::new(file, size))
    }

    pub(super) fn qcow2(&mut self, path: &Path, read_only: bool) -> Result<Qcow2Image, ImageError> {
        let file = self.file(path, read_only)?;
        let (len, holes) = size(&file)
            .and_then(|len| Ok((len, file.try_clone()?)))
            .map_err(|source| self.unreadable(path, read_only, source))?;
        let (image, header) = self.layer(path, file, read_only)?;
        Ok(Qcow2Image::new(image, holes, header, len))
    }

    /// The format in `file`, with what is under it.
    fn layer(
        &mut self,
        path: &Path,
        mut file: File,
        read_only: bool,
    ) -> Result<(FormatAccess<ImageFile>, Header), ImageError> {
        let mut bytes = Vec::new();
        let read = file
            .rewind()
            .and_then(|()| (&file).take(MOST_BYTES as u64).read_to_end(&mut bytes));
        read.map_err(|source| self.unreadable(path, read_only, source))?;
        let named = |source| ImageError::Header {
            id: self.id.to_owned(),
            path: path.to_owned(),
            source,
        };
        let header = Header::read(&bytes, read_only).map_err(named)?;
        if !read_only {
            let mut first = [0; 8];
            file.read_exact_at(&mut first, header.counts)
                .map_err(|source| self.unreadable(path, read_only, source))?;
            header.check_counts(first).map_err(named)?;
        }
        let under = match &header.backing {
            None => None,
            Some(backing) => Some(self.under(path, backing)?),
        };
        let pointers = if read_only { 0..0 } else { header.pointers.clone() };
        let storage = ImageFile::new(file, path.display().to_string(), pointers);
        let image = Qcow2::<ImageFile>::builder(storage)
            .write(!read_only)
            .backing(under)
            .data_file(None)
            .open(DenyImplicitOpenGate::default());
        let image = image.map_err(|source| ImageError::Format {
            id: self.id.to_owned(),
            path: path.to_owned(),
            source,
        })?;
        Ok((FormatAccess::new(image), header))
    }

    /// The image under the one at `path`.
    fn under(&mut self, path: &Path, backing: &Backing) -> Result<FormatAccess<ImageFile>, ImageError> {
        let within = |source| ImageError::Backing {
            id: self.id.to_owned(),
            name: backing.name.clone(),
            of: path.to_owned(),
            source,
        };
        let name = backing.name.strip_prefix("file:").unwrap_or(&backing.name);
        let directory = name.split('/').next().unwrap_or_default();
        if directory.contains(':') {
            return Err(within(BackingError::NoFile));
        }
        let below = path.parent().unwrap_or(Path::new("")).join(name);
        let format = match backing.format.as_deref() {
            Some("raw") => ImageFormat::Raw,
            Some("qcow2") => ImageFormat::Qcow2,
            Some(other) => return Err(within(BackingError::Format(other.to_owned()))),
            None => return Err(within(BackingError::NoFormat { of: path.to_owned() })),
        };
        if self.paths.len() == MOST_LAYERS {
            return Err(within(BackingError::Depth));
        }
        let file = self.file(&below, true)?;
        match format {
            ImageFormat::Qcow2 => Ok(self.layer(&below, file, true)?.0),
            ImageFormat::Raw => {
                let storage = ImageFile::new(file, below.display().to_string(), 0..0);
                let image = Raw::open_image(storage, false);
                let image = image.map_err(|source| self.unreadable(&below, true, source))?;
                Ok(FormatAccess::new(image))
            }
        }
    }

    /// A file, opened and locked.
    fn file(&mut self, path: &Path, read_only: bool) -> Result<File, ImageError> {
        let failed = |source| self.unreadable(path, read_only, source);
        // Looked at first: a FIFO would wait for its other end.
        let metadata = std::fs::metadata(path).map_err(failed)?;
        let kind = metadata.file_type();
        let (id, path) = (self.id.to_owned(), path.to_owned());
        if !(kind.is_file() || kind.is_block_device()) {
            return Err(ImageError::Kind { id, path });
        }
        let place = (metadata.dev(), metadata.ino());
        if self.seen.contains(&place) {
            return Err(ImageError::Loop { id, path });
        }
        let file = OpenOptions::new()
            .read(true)
            .write(!read_only)
            .open(&path)
            .map_err(failed)?;
        let locked = image_lock::lock(&file, read_only);
        self.seen.push(place);
        self.paths.push(path.clone());
        locked.map_err(|source| ImageError::Lock { id, path, source })?;
        Ok(file)
    }

    fn unreadable(&self, path: &Path, read_only: bool, source: io::Error) -> ImageError {
        ImageError::Open {
            id: self.id.to_owned(),
            path: path.to_owned(),
            how: match read_only {
                true => "for reading",
                false => "for reading and writing (readonly=on only reads)",
            },
            source,
        }
    }
}

/// A block device has its size only at its end.
fn size(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}
