//! Named points of a start at which a test can freeze Ballast, to see what a SIGKILL there leaves behind.
//!
//! With `BALLAST_FREEZE_AT=slots` in its environment, Ballast says `ballast: frozen at slots` on stderr when it gets
//! there, and stops itself by SIGSTOP. SIGCONT lets it go on.

use std::fmt;

use rustix::process::{Signal, getpid, kill_process};

/// The environment variable that names the stage.
pub const VARIABLE: &str = "BALLAST_FREEZE_AT";

/// The points, in the order in which a machine passes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The control sockets are bound.
    Sockets,
    /// A backend is mapped.
    Mapped,
    /// Its hints are given.
    Hinted,
    /// Its NUMA policy is set.
    Bound,
    /// KVM has its memory slots.
    Slots,
    /// Half of the pages of a backend are there.
    PreallocHalf,
    /// All of its pages are there.
    Preallocated,
    /// The kernel is loaded.
    Loaded,
    /// The vCPUs are about to run.
    Booting,
    /// The balloon has taken half of what was asked.
    InflateHalf,
}

/// Every stage, with its name.
pub const STAGES: [(Stage, &str); 10] = [
    (Stage::Sockets, "sockets"),
    (Stage::Mapped, "mapped"),
    (Stage::Hinted, "hinted"),
    (Stage::Bound, "bound"),
    (Stage::Slots, "slots"),
    (Stage::PreallocHalf, "prealloc-half"),
    (Stage::Preallocated, "preallocated"),
    (Stage::Loaded, "loaded"),
    (Stage::Booting, "booting"),
    (Stage::InflateHalf, "inflate-half"),
];

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = STAGES
            .iter()
            .find(|(stage, _)| stage == self)
            .map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// The stage to freeze at, read from the environment once.
#[derive(Clone, Copy, Debug, Default)]
pub struct Freezer(Option<Stage>);

impl Freezer {
    /// From [`VARIABLE`]; an unknown name is reported and freezes nothing.
    pub fn from_environment() -> Freezer {
        let Some(name) = std::env::var_os(VARIABLE) else {
            return Freezer(None);
        };
        let stage = STAGES.iter().find(|(_, known)| name.to_str() == Some(*known));
        if stage.is_none() {
            tracing::warn!("{VARIABLE}={}: there is no such stage", name.display());
        }
        Freezer(stage.map(|(stage, _)| *stage))
    }

    /// Marks that `stage` is reached.
    pub fn reached(self, stage: Stage) {
        if self.0 == Some(stage) {
            eprintln!("ballast: frozen at {stage}");
            if let Err(error) = kill_process(getpid(), Signal::STOP) {
                tracing::warn!("cannot stop at {stage}: {error}");
            }
        } else {
            tracing::debug!("stage: {stage}");
        }
    }
}

#[cfg(test)]
mod tests;
