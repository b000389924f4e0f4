//! Disk images, opened.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

use devices::disk::{DiskImage, RawImage, SECTOR};
use memory::size::ByteSize;

use crate::config::Drive;
use crate::host::image_lock::{self, LockError};

/// Why an image cannot be a disk. Each names its drive.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// It cannot be opened.
    #[error("drive '{id}': cannot open {} {how}", path.display())]
    Open {
        /// The drive.
        id: String,
        /// The file.
        path: PathBuf,
        /// For what.
        how: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// It is something else.
    #[error("drive '{id}': {} is neither a file nor a block device", path.display())]
    Kind {
        /// The drive.
        id: String,
        /// What was named.
        path: PathBuf,
    },
    /// It ends within a sector.
    #[error("drive '{id}': {} has {size}, which is not a whole number of sectors of 512 bytes{hint}", path.display())]
    Size {
        /// The drive.
        id: String,
        /// The file.
        path: PathBuf,
        /// Its size.
        size: ByteSize,
        /// What to do.
        hint: String,
    },
    /// Somebody else has it.
    #[error("drive '{id}': {}", path.display())]
    Lock {
        /// The drive.
        id: String,
        /// The file.
        path: PathBuf,
        /// Who.
        source: LockError,
    },
}

/// Opens and locks the image of `drive`.
pub(super) fn open(drive: &Drive) -> Result<Box<dyn DiskImage>, ImageError> {
    let (id, path) = (drive.id.clone(), drive.file.clone());
    let failed = |source| ImageError::Open {
        id: id.clone(),
        path: path.clone(),
        how: match drive.read_only {
            true => "for reading",
            false => "for reading and writing (readonly=on only reads)",
        },
        source,
    };
    // Looked at first: a FIFO would wait for its other end.
    let kind = std::fs::metadata(&path).map_err(failed)?.file_type();
    if !(kind.is_file() || kind.is_block_device()) {
        return Err(ImageError::Kind { id, path });
    }
    let file = OpenOptions::new()
        .read(true)
        .write(!drive.read_only)
        .open(&path)
        .map_err(failed)?;
    image_lock::lock(&file, drive.read_only).map_err(|source| ImageError::Lock {
        id: id.clone(),
        path: path.clone(),
        source,
    })?;
    let size = size(&file).map_err(failed)?;
    if size == 0 || !size.is_multiple_of(SECTOR) {
        let hint = match size.next_multiple_of(SECTOR) {
            0 => "; 'truncate -s SIZE' gives it one".to_owned(),
            whole => format!("; 'truncate -s {whole}' makes it one"),
        };
        return Err(ImageError::Size {
            id,
            path,
            size: ByteSize::from_bytes(size),
            hint,
        });
    }
    Ok(Box::new(RawImage::new(file, size)))
}

/// A block device has its size only at its end.
fn size(mut file: &File) -> io::Result<u64> {
    file.seek(SeekFrom::End(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(file: &std::path::Path, read_only: bool) -> Drive {
        Drive {
            id: "d".to_owned(),
            file: file.to_owned(),
            read_only,
        }
    }

    fn text(file: &std::path::Path) -> String {
        let error = open(&drive(file, false)).unwrap_err();
        let source = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", source.unwrap_or_default())
    }

    #[test]
    fn opens_what_can_be_a_disk() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        assert!(
            text(&path).contains("cannot open") && text(&path).contains("No such file"),
            "{}",
            text(&path)
        );
        assert!(text(directory.path()).contains("neither a file nor a block device"));
        File::create(&path).unwrap();
        assert!(text(&path).contains("truncate -s SIZE"), "{}", text(&path));
        std::fs::write(&path, [0; 700]).unwrap();
        assert!(
            text(&path).contains("'truncate -s 1024' makes it one"),
            "{}",
            text(&path)
        );
        std::fs::write(&path, [0; 1024]).unwrap();
        let image = open(&drive(&path, false)).unwrap();
        assert_eq!(image.size(), 1024);
        assert!(text(&path).contains("another program"), "{}", text(&path));
        drop(image);
        let readers = [(); 2].map(|()| open(&drive(&path, true)).unwrap());
        assert!(text(&path).contains("another program"), "{}", text(&path));
        drop(readers);
        open(&drive(&path, false)).unwrap();
    }
}
