//! What the machine as a whole is doing, and which change of that is allowed.

use std::fmt;

/// The state of a machine, named as QMP's `RunState` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Built, but no vCPU has run yet (`-S`).
    Prelaunch,
    /// The vCPUs run.
    Running,
    /// Stopped by a user; goes on with `cont`.
    Paused,
    /// Stopped because the host could not supply a page of guest memory; `cont` tries again.
    MemoryStarved,
    /// Stopped because the guest's kernel panicked; `cont` lets it go on.
    GuestPanicked,
    /// KVM could not go on with a vCPU.
    InternalError,
    /// The guest has ended.
    Shutdown,
}

use RunState::{GuestPanicked, InternalError, MemoryStarved, Paused, Prelaunch, Running, Shutdown};

/// Every change of state there is; anything else is refused.
const TRANSITIONS: &[(RunState, RunState)] = &[
    (Prelaunch, Running),
    // A reset needs memory in every state that it can begin in.
    (Prelaunch, MemoryStarved),
    (Prelaunch, Shutdown),
    (Running, Paused),
    (Running, MemoryStarved),
    (Running, GuestPanicked),
    (Running, InternalError),
    (Running, Shutdown),
    (Paused, Running),
    // A vCPU, or a device that was still working, may run into missing memory just as the machine stops.
    (Paused, MemoryStarved),
    (Paused, InternalError),
    (Paused, Shutdown),
    (GuestPanicked, Running),
    (GuestPanicked, MemoryStarved),
    (GuestPanicked, Shutdown),
    (MemoryStarved, Running),
    (MemoryStarved, Shutdown),
    (InternalError, Shutdown),
];

impl RunState {
    /// Whether a machine in this state may go to `next`.
    pub fn may_become(self, next: RunState) -> bool {
        TRANSITIONS.contains(&(self, next))
    }

    /// The word of QMP's `RunState` for this state; [`RunState::MemoryStarved`] is its `io-error`, the state in which
    /// QEMU waits for an operator to supply what was missing.
    pub fn as_qmp(self) -> &'static str {
        match self {
            Prelaunch => "prelaunch",
            Running => "running",
            Paused => "paused",
            MemoryStarved => "io-error",
            GuestPanicked => "guest-panicked",
            InternalError => "internal-error",
            Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for RunState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_qmp())
    }
}

#[cfg(test)]
mod tests;
