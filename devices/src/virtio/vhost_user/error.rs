//! What can go wrong between us and a daemon.

use std::io;
use std::time::Duration;

use thiserror::Error;

/// Errors of a device that a daemon serves. None of them is caused by a guest alone.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VhostUserError {
    /// Nobody answers at the socket.
    #[error("no daemon answers")]
    Connect(#[source] io::Error),
    /// The guest's memory is not a file that could be handed over.
    #[error(
        "the daemon needs the guest's memory, and backend '{backend}' is private to Ballast: write share=on \
         (-object memory-backend-memfd,id=…,size=…,share=on is the simplest)"
    )]
    NotShared {
        /// The backend.
        backend: String,
    },
    /// The daemon takes fewer pieces of memory than the guest has.
    #[error(
        "the guest's memory has {regions} pieces, and the daemon takes {most}: give the guest fewer backends"
    )]
    TooManyRegions {
        /// Pieces of the guest's memory.
        regions: usize,
        /// What the daemon takes.
        most: u64,
    },
    /// The daemon does not offer what cannot be done without.
    #[error("the daemon does not offer {what}")]
    Lacks {
        /// What is missing.
        what: &'static str,
    },
    /// A daemon that came back is not what the driver has agreed on.
    #[error("the daemon has come back without the features {features:#x}, which the guest uses")]
    OffersLess {
        /// The features that are missing.
        features: u64,
    },
    /// A ring does not lie in one piece of RAM.
    #[error("the guest's ring at {address:#x} does not lie in one piece of its memory")]
    RingOutside {
        /// The guest address.
        address: u64,
    },
    /// A request failed, or its answer is none.
    #[error("the daemon failed at {request}")]
    Request {
        /// The request.
        request: &'static str,
        /// What the other side, or the socket, said.
        source: vhost::Error,
    },
    /// The daemon let us wait. The connection is closed.
    #[error("the daemon did not answer within {} s", limit.as_secs())]
    Timeout {
        /// The time for all requests of one kind of change.
        limit: Duration,
    },
    /// A descriptor or a thread cannot be had.
    #[error("the host has no descriptors or threads left")]
    Host(#[source] io::Error),
}

/// An error and everything that caused it, for the log.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
