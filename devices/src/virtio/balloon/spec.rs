//! What the user says about a balloon, and what can be wrong with it.

use std::io;
use std::time::Duration;

use memory::size::ByteSize;
use thiserror::Error;

/// What the user says about a balloon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalloonSpec {
    /// Its name.
    pub id: String,
    /// Whether the guest may deflate it when it runs out of memory.
    pub deflate_on_oom: bool,
    /// Whether the guest may say what its free pages contain. One that fills them and cannot say so does not report
    /// free pages.
    pub page_poison: bool,
    /// Whether the guest may report free pages.
    pub reporting: Reporting,
    /// The least that a target may leave to the guest.
    pub min: ByteSize,
    /// The first target; all RAM where there is none.
    pub initial: Option<ByteSize>,
    /// How often the guest is asked for statistics; zero: only when somebody wants them.
    pub stats_interval: Duration,
    /// Whether the guest gets everything back when its statistics say that it suffers.
    pub deflate_on_distress: bool,
}

impl BalloonSpec {
    /// A balloon with everything as by default.
    #[must_use]
    pub fn new(id: impl Into<String>) -> BalloonSpec {
        BalloonSpec {
            id: id.into(),
            deflate_on_oom: false,
            page_poison: true,
            reporting: Reporting::On,
            min: ByteSize::ZERO,
            initial: None,
            stats_interval: Duration::ZERO,
            deflate_on_distress: false,
        }
    }
}

/// Whether free page reporting is offered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reporting {
    /// It is.
    On,
    /// It is not, and why.
    Off(String),
}

/// Errors of making or setting a balloon; never caused by a guest.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BalloonError {
    /// No eventfd can be had.
    #[error("cannot make the event of balloon '{id}'")]
    CreateEvent {
        /// The balloon.
        id: String,
        /// What the host said.
        source: io::Error,
    },
    /// A guest cannot run on nothing.
    #[error("balloon '{id}' expects a size above 0")]
    SetTarget {
        /// The balloon.
        id: String,
    },
    /// The user forbade it.
    #[error("balloon '{id}' may leave no less than {floor} to the guest (min=), {wanted} was asked")]
    BelowFloor {
        /// The balloon.
        id: String,
        /// What the guest keeps at least.
        floor: ByteSize,
        /// What was asked.
        wanted: ByteSize,
    },
}
