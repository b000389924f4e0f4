//! Why a test could not go on.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The result of everything in the harness.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a test could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the host could not be used.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, as in "read".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file of the host does not look as expected.
    #[error("{} has no {what}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is not in it.
        what: String,
    },
    /// A program could not be started or waited for.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The program.
        program: String,
        /// Why not.
        source: io::Error,
    },
    /// Something did not come in time.
    #[error("no {what} within {patience:?}; seen until then:\n{seen}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// For how long.
        patience: Duration,
        /// What came instead.
        seen: String,
    },
    /// The other side ended first.
    #[error("ended before {what}; seen until then:\n{seen}")]
    Ended {
        /// What was waited for.
        what: String,
        /// What came instead.
        seen: String,
    },
    /// The guest's agent refused a request.
    #[error("the guest answered {status} to `{request}`: {output}")]
    Agent {
        /// The request.
        request: String,
        /// The status.
        status: i32,
        /// What it said.
        output: String,
    },
    /// A QMP command failed.
    #[error("QMP {class} to `{command}`: {text}")]
    Qmp {
        /// The command.
        command: String,
        /// The error's class.
        class: String,
        /// Its description.
        text: String,
    },
    /// The QMP connection broke or carried something else than QMP.
    #[error("QMP connection: {0}")]
    Connection(String),
}

impl Error {
    /// An error about a file, for `map_err`.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    }

    /// Whether a deadline passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Error::TimedOut { .. })
    }
}
