//! Opening the files that the user names.

use std::fs::{File, metadata};
use std::io;
use std::path::Path;

/// An open regular file and its size in bytes.
///
/// Only regular files: opening a pipe could wait for ever, and the size of anything else is not known beforehand.
pub(crate) fn open(path: &Path) -> io::Result<(File, u64)> {
    if !metadata(path)?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let file = File::open(path)?;
    let size = file.metadata()?.len();
    Ok((file, size))
}
