//! Why a disk has no image.

use std::io;
use std::path::PathBuf;

use memory::size::ByteSize;

use super::chain::MOST_LAYERS;
use super::qcow2::header::HeaderError;
use crate::host::image_lock::LockError;

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
    /// It stands on itself.
    #[error("drive '{id}': {} is under itself: an image cannot be its own backing file", path.display())]
    Loop {
        /// The drive.
        id: String,
        /// The file.
        path: PathBuf,
    },
    /// It is no image that can be served.
    #[error("drive '{id}': cannot use {}", path.display())]
    Header {
        /// The drive.
        id: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: HeaderError,
    },
    /// Its tables cannot be read.
    #[error("drive '{id}': cannot use the tables of {}", path.display())]
    Format {
        /// The drive.
        id: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: io::Error,
    },
    /// What is under it cannot be had.
    #[error("drive '{id}': the backing file '{name}' of {}", of.display())]
    Backing {
        /// The drive.
        id: String,
        /// The name of the backing file.
        name: String,
        /// Where it is named.
        of: PathBuf,
        /// What is wrong with it.
        source: BackingError,
    },
}

/// Why the name of a backing file leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum BackingError {
    /// It is somewhere else.
    #[error("is no file of this machine")]
    NoFile,
    /// A format that is not served.
    #[error("has the format '{0}'; 'raw' and 'qcow2' are known")]
    Format(String),
    /// It could be anything, and to look would be to believe its guest.
    #[error(
        "may be raw or qcow2, and the image does not say which: 'qemu-img rebase -u -F FORMAT -b FILE {}' writes it down",
        of.display()
    )]
    NoFormat {
        /// The image.
        of: PathBuf,
    },
    /// Too many.
    #[error(
        "is one too many: {MOST_LAYERS} images may lie upon each other; 'qemu-img convert' makes one of them"
    )]
    Depth,
}
