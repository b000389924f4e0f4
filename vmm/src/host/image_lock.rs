//! Locks of disk images, as QEMU takes them: of each byte of a file one says that somebody does something, or that somebody
//! bears nobody who does. All are read locks, so that anybody can have them and anybody can see them (F_OFD_SETLK and
//! F_OFD_GETLK of fcntl(2)); they go with the last descriptor of the open file.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// The byte for doing the first thing, and the byte for bearing nobody who does it.
const DOING: i64 = 100;
const ALONE_IN: i64 = 200;

/// What one can do with an image, as distances from those bytes.
const READING: i64 = 0;
const WRITING: i64 = 1;
const RESIZING: i64 = 3;

/// Why an image is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another program uses it in a way that does not go with ours.
    #[error(
        "another program {what}; end it first (QEMU's tools and Ballast share images that are all read-only)"
    )]
    Taken {
        /// What it does.
        what: &'static str,
    },
    /// The file system refuses.
    #[error("cannot lock the image")]
    Lock(#[source] io::Error),
}

/// Says in the file what we do with it, and makes sure that it goes with what others do.
pub fn lock(file: &File, read_only: bool) -> Result<(), LockError> {
    let doing: &[i64] = if read_only {
        &[READING]
    } else {
        &[READING, WRITING, RESIZING]
    };
    // Nobody is to change under us what we read.
    let alone_in = [WRITING, RESIZING];
    let ours = doing.iter().map(|what| DOING + what);
    for byte in ours.chain(alone_in.map(|what| ALONE_IN + what)) {
        call(file, libc::F_OFD_SETLK, libc::F_RDLCK, byte).map_err(LockError::Lock)?;
    }
    // Ours are there first: of two that come at the same time at least one sees the other.
    let opposing = alone_in.map(|what| (DOING + what, "writes to it"));
    let opposed = doing
        .iter()
        .map(|what| (ALONE_IN + what, "uses it and wants nobody to write"));
    for (byte, what) in opposing.into_iter().chain(opposed) {
        if call(file, libc::F_OFD_GETLK, libc::F_WRLCK, byte).map_err(LockError::Lock)? {
            return Err(LockError::Taken { what });
        }
    }
    Ok(())
}

/// Sets a lock on one byte, or asks who would be in its way. Returns whether somebody is, where that was asked.
fn call(file: &File, command: libc::c_int, kind: libc::c_int, byte: i64) -> io::Result<bool> {
    // SAFETY: an all-zero flock is a valid one; every field that matters is set below.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    let short = |value: libc::c_int| libc::c_short::try_from(value).map_err(io::Error::other);
    (lock.l_type, lock.l_whence) = (short(kind)?, short(libc::SEEK_SET)?);
    (lock.l_start, lock.l_len) = (byte, 1);
    // SAFETY: the kernel reads and writes `lock`, which lives until the call returns.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(lock.l_type != short(libc::F_UNLCK)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::unlocked;

    /// Locks the file as somebody else would, with an open file of one's own.
    fn other(path: &std::path::Path, read_only: bool) -> (File, Result<(), LockError>) {
        let file = File::options().read(true).write(!read_only).open(path).unwrap();
        let result = lock(&file, read_only);
        (file, result)
    }

    #[test]
    fn readers_share_and_a_writer_is_alone() {
        let image = tempfile::NamedTempFile::new().unwrap();
        let path = image.path();
        let first = other(path, true);
        let second = other(path, true);
        assert!(first.1.is_ok() && second.1.is_ok());
        let writer = other(path, false).1.unwrap_err();
        assert!(writer.to_string().contains("wants nobody to write"), "{writer}");
        drop((first, second));
        let alone = unlocked(|| {
            let (file, result) = other(path, false);
            result.map(|()| file)
        });
        assert!(other(path, false).1.is_err());
        let reader = other(path, true).1.unwrap_err();
        assert!(
            reader.to_string().contains("another program writes to it"),
            "{reader}"
        );
        drop(alone);
        unlocked(|| other(path, true).1);
    }
}
