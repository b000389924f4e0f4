//! `-pidfile`: where the process id of a running Ballast stands, and a lock that says that it runs.

use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Why there is no such file.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// Another process has it.
    #[error("the file '{}' of -pidfile is locked: its process{} still runs", path.display(), named(pid))]
    Taken {
        /// The file.
        path: PathBuf,
        /// What stands in it.
        pid: String,
    },
    /// The file cannot be written.
    #[error("cannot write the file '{}' of -pidfile", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

fn named(pid: &str) -> String {
    match pid.trim().parse::<u32>() {
        Ok(pid) => format!(" {pid}"),
        Err(_) => String::new(),
    }
}

/// A file with the process id in it, which goes with this value.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    _locked: File,
}

impl PidFile {
    /// Writes it. One that was left behind by a process that was killed is not in the way.
    ///
    /// # Errors
    /// When it cannot be written, or another process has it.
    pub fn create(path: &Path) -> Result<PidFile, PidFileError> {
        let failed = |source| PidFileError::Write {
            path: path.to_owned(),
            source,
        };
        loop {
            let mut options = File::options();
            let opened = options
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path);
            let file = opened.map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(PidFileError::Taken {
                        path: path.to_owned(),
                        pid: fs::read_to_string(path).unwrap_or_default(),
                    });
                }
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // Whoever had it before may have taken it away just now.
            let ours = file.metadata().map_err(failed)?;
            let is_there = |there: Metadata| (there.dev(), there.ino()) == (ours.dev(), ours.ino());
            if fs::metadata(path).is_ok_and(is_there) {
                file.set_len(0).map_err(failed)?;
                (&file)
                    .write_all(format!("{}\n", std::process::id()).as_bytes())
                    .map_err(failed)?;
                return Ok(PidFile {
                    path: path.to_owned(),
                    _locked: file,
                });
            }
        }
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // Somebody else may have taken it away.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests;
