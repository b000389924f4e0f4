//! The one error of the lab program: it is read by the person who typed the command, never matched.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// The result of everything in the lab.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the lab could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Packages are missing that only the user can install.
    #[error("missing: {missing}; install it with: {line}")]
    Missing {
        /// What is missing.
        missing: String,
        /// The line to type.
        line: String,
    },
    /// A file could not be used.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, as in "read".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot start `{command}`")]
    Start {
        /// The program and its arguments.
        command: String,
        /// Why not.
        source: io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed ({status}){output}")]
    Command {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said last, with a newline before it, or nothing.
        output: String,
    },
    /// Something else is not as it has to be.
    #[error("{0}")]
    Failed(String),
}

impl Error {
    /// An error about a file, for `map_err`: `.map_err(Error::file("read", path))`.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    }

    /// The exit code: 2 when the user has to change something before another try, else 1.
    pub fn code(&self) -> u8 {
        match self {
            Error::Usage(_) | Error::Missing { .. } => 2,
            Error::File { .. } | Error::Start { .. } | Error::Command { .. } | Error::Failed(_) => 1,
        }
    }
}
