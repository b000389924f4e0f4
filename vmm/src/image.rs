//! Disk images, opened and locked, with the images under them.

use std::path::PathBuf;

use devices::disk::DiskImage;

use crate::cli::disk::ImageFormat;
use crate::config::Drive;

mod chain;
mod error;
pub mod qcow2;

pub use error::{BackingError, ImageError};

/// A disk image with what it stands on.
#[derive(Debug)]
pub struct Opened {
    /// The disk.
    pub image: Box<dyn DiskImage>,
    /// The files under it, from the top.
    pub backing: Vec<PathBuf>,
}

/// Opens and locks the image of `drive`, and those under it.
///
/// # Errors
/// When one of them cannot be had, or is not what it is said to be.
pub fn open(drive: &Drive) -> Result<Opened, ImageError> {
    let mut chain = chain::Chain::new(&drive.id);
    let image: Box<dyn DiskImage> = match drive.format {
        ImageFormat::Raw => Box::new(chain.raw(&drive.file, drive.read_only)?),
        ImageFormat::Qcow2 => Box::new(chain.qcow2(&drive.file, drive.read_only)?),
    };
    Ok(Opened {
        image,
        backing: chain.into_paths().split_off(1),
    })
}

#[cfg(test)]
mod tests;
