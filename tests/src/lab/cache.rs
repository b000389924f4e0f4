//! What is expensive to make is made once, under a name that changes with its inputs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use super::{Error, Result};

/// A hash of everything that a cache entry is made from (FNV-1a, 64 bits: no enemy chooses these inputs).
#[derive(Clone, Copy, Debug)]
pub struct Key(u64);

impl Key {
    /// The key of nothing.
    pub fn new() -> Key {
        Key(0xcbf2_9ce4_8422_2325)
    }

    /// The key of everything so far and one more input.
    #[must_use]
    pub fn with(self, input: impl AsRef<[u8]>) -> Key {
        let input = input.as_ref();
        let length = u64::try_from(input.len()).unwrap_or(u64::MAX).to_le_bytes();
        let bytes = length.iter().chain(input);
        Key(bytes.fold(self.0, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }
}

impl Default for Key {
    fn default() -> Self {
        Key::new()
    }
}

/// A directory of things made once.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

impl Cache {
    /// The cache in a directory.
    pub fn new(root: PathBuf) -> Cache {
        Cache { root }
    }

    /// The directory of an entry. `make` fills it if it is not there; another lab that wants it meanwhile waits.
    pub fn entry(&self, name: &str, key: Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
        let done = self.root.join(format!("{name}-{:016x}", key.0));
        if done.is_dir() {
            return Ok(done);
        }
        let lock_path = self.root.join(format!("{name}.lock"));
        let lock = File::create(&lock_path).map_err(Error::file("create", &lock_path))?;
        flock(&lock, FlockOperation::LockExclusive)
            .map_err(|error| Error::file("lock", &lock_path)(error.into()))?;
        if done.is_dir() {
            return Ok(done);
        }
        let partial = self.root.join(format!("{name}.partial"));
        if partial.exists() {
            fs::remove_dir_all(&partial).map_err(Error::file("remove", &partial))?;
        }
        fs::create_dir_all(&partial).map_err(Error::file("create", &partial))?;
        make(&partial)?;
        fs::rename(&partial, &done).map_err(Error::file("rename", &partial))?;
        Ok(done)
    }
}

#[cfg(test)]
mod tests;
