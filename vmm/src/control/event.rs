//! Events: what clients are told without asking.

use std::time::{SystemTime, UNIX_EPOCH};

use devices::virtio::balloon::{DistressReport, StallReport};
use memory::ram::PreallocReport;
use memory::size::ByteSize;
use serde_json::{Map, Value, json};

use super::prealloc_report;
use crate::cli::lifecycle::PanicAction;
use crate::misplaced::Misplaced;
use crate::starvation::Diagnosis;
use crate::starvation::broken::BrokenReport;

/// Why the machine ended or was reset, as QMP's `ShutdownCause` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// The guest turned itself off.
    GuestShutdown,
    /// The guest asked for a reset.
    GuestReset,
    /// `quit`.
    HostQmpQuit,
    /// `system_reset`.
    HostQmpSystemReset,
    /// A signal such as SIGTERM.
    HostSignal,
    /// The guest's kernel panicked.
    GuestPanic,
    /// The machine could not go on.
    HostError,
}

impl ShutdownReason {
    /// Its name on the wire.
    pub fn as_qmp(self) -> &'static str {
        match self {
            ShutdownReason::GuestShutdown => "guest-shutdown",
            ShutdownReason::GuestReset => "guest-reset",
            ShutdownReason::HostQmpQuit => "host-qmp-quit",
            ShutdownReason::HostQmpSystemReset => "host-qmp-system-reset",
            ShutdownReason::HostSignal => "host-signal",
            ShutdownReason::GuestPanic => "guest-panic",
            ShutdownReason::HostError => "host-error",
        }
    }
}

/// Something that clients shall know.
#[derive(Clone, Debug)]
pub enum Event {
    /// The balloon reached a new size.
    BalloonChange {
        /// What is left to the guest.
        actual: ByteSize,
    },
    /// The balloon should move and does not.
    BalloonStalled(StallReport),
    /// The guest was in need and got everything back.
    BalloonDistress(DistressReport),
    /// The vCPUs stopped.
    Stop,
    /// The vCPUs run.
    Resume,
    /// The power button was pressed.
    Powerdown,
    /// The guest's kernel panicked, as pvpanic told.
    GuestPanicked {
        /// What follows.
        action: PanicAction,
    },
    /// The guest's kernel panicked, and another one that it kept for this goes on.
    GuestCrashLoaded,
    /// The machine is as after power-on.
    Reset {
        /// Whether the guest wanted it.
        guest: bool,
        /// Why.
        reason: ShutdownReason,
    },
    /// The machine has ended.
    Shutdown {
        /// Whether the guest wanted it.
        guest: bool,
        /// Why.
        reason: ShutdownReason,
    },
    /// The host could not supply a page of guest memory, and the machine waits for `cont`.
    MemoryStarved(Diagnosis),
    /// Memory lies where its policy does not want it.
    MemoryMisplaced(Misplaced),
    /// A preallocation beside the guest has ended.
    PreallocEnded(PreallocReport),
    /// A page of the host is broken.
    MemoryFailure(BrokenReport),
}

impl Event {
    /// Its name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Event::BalloonChange { .. } => "BALLOON_CHANGE",
            Event::BalloonStalled(_) => "x-ballast-BALLOON_STALLED",
            Event::BalloonDistress(_) => "x-ballast-BALLOON_DISTRESS",
            Event::Stop => "STOP",
            Event::Resume => "RESUME",
            Event::Powerdown => "POWERDOWN",
            Event::GuestPanicked { .. } => "GUEST_PANICKED",
            Event::GuestCrashLoaded => "GUEST_CRASHLOADED",
            Event::Reset { .. } => "RESET",
            Event::Shutdown { .. } => "SHUTDOWN",
            Event::MemoryStarved(_) => "x-ballast-MEMORY_STARVED",
            Event::MemoryMisplaced(_) => "x-ballast-MEMORY_MISPLACED",
            Event::PreallocEnded(_) => "x-ballast-PREALLOC_ENDED",
            Event::MemoryFailure(_) => "MEMORY_FAILURE",
        }
    }

    /// Whether a guest can cause it as often as it likes.
    pub(super) fn is_limited(&self) -> bool {
        matches!(
            self,
            Event::BalloonChange { .. }
                | Event::BalloonStalled(_)
                | Event::BalloonDistress(_)
                | Event::GuestPanicked { .. }
                | Event::GuestCrashLoaded
                | Event::Reset { guest: true, .. }
        )
    }

    fn data(&self) -> Option<Value> {
        match self {
            Event::BalloonChange { actual } => Some(json!({ "actual": actual.bytes() })),
            Event::BalloonStalled(stall) => Some(json!({
                "target": stall.target.bytes(),
                "actual": stall.actual.bytes(),
                "seconds": stall.since.as_secs(),
                "reason": stall.reason.as_str(),
                "message": stall.reason.to_string(),
            })),
            Event::BalloonDistress(distress) => Some(json!({
                "signs": distress.signs.iter().map(|(name, rise)| ((*name).to_owned(), json!(rise))).collect::<Map<_, _>>(),
                "target": distress.target.bytes(),
                "given-back": distress.given_back.bytes(),
            })),
            Event::Stop | Event::Resume | Event::Powerdown => None,
            Event::Reset { guest, reason } | Event::Shutdown { guest, reason } => {
                Some(json!({ "guest": guest, "reason": reason.as_qmp() }))
            }
            Event::MemoryMisplaced(misplaced) => Some(json!({
                "id": misplaced.backend,
                "policy": misplaced.policy,
                "strict": misplaced.strict,
                "misplaced": misplaced.misplaced.bytes(),
                "nodes": (misplaced.nodes.iter())
                    .map(|(node, size)| json!({ "node": node, "bytes": size.bytes() }))
                    .collect::<Vec<_>>(),
                "message": misplaced.to_string(),
            })),
            Event::GuestPanicked { action } => {
                let word = match action {
                    PanicAction::Shutdown | PanicAction::ExitFailure => "poweroff",
                    PanicAction::Pause => "pause",
                    PanicAction::None => "run",
                };
                Some(json!({ "action": word }))
            }
            Event::GuestCrashLoaded => Some(json!({ "action": "run" })),
            Event::PreallocEnded(report) => Some(prealloc_report::json(report)),
            // What could not be found out is null.
            Event::MemoryStarved(diagnosis) => Some(json!({
                "address": diagnosis.address().map(|address| address.0),
                "vcpu": diagnosis.vcpu(),
                "backend": diagnosis.backend,
                "page-size": diagnosis.page_size,
                "policy": diagnosis.policy,
                "host-nodes": diagnosis.host_nodes,
                "pool": diagnosis.pool,
                "cause": diagnosis.cause(),
                "data-lost": diagnosis.data_lost,
                "message": diagnosis.to_string(),
            })),
            // QEMU's members, and ours apart from them.
            Event::MemoryFailure(failure) => Some(json!({
                "recipient": failure.recipient(),
                "action": failure.broken.action().as_qmp(),
                "flags": { "action-required": failure.action_required(), "recursive": failure.recursive() },
                "x-ballast": {
                    "address": failure.broken.address().map(|address| address.0),
                    "backend": failure.backend,
                    "page-size": failure.page_size,
                    "vcpu": failure.vcpu(),
                    "message": failure.to_string(),
                },
            })),
        }
    }

    /// The event as clients see it, having happened at `time`.
    pub fn to_qmp(&self, time: SystemTime) -> Value {
        // A clock before 1970 is no reason to keep the event back.
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let timestamp = json!({ "seconds": since.as_secs(), "microseconds": since.subsec_micros() });
        let mut event = json!({ "event": self.name(), "timestamp": timestamp });
        if let Some(data) = self.data() {
            event["data"] = data;
        }
        event
    }
}

#[cfg(test)]
mod tests;
