//! Events: what clients are told without asking.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use memory::size::ByteSize;
use serde_json::{Value, json};

use crate::starvation::Diagnosis;

/// Why the machine ended, as QMP's `ShutdownCause` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutdownReason {
    /// The guest turned itself off.
    GuestShutdown,
    /// The guest asked for a reset.
    GuestReset,
    /// `quit`.
    HostQmpQuit,
    /// A signal such as SIGTERM.
    HostSignal,
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
            ShutdownReason::HostSignal => "host-signal",
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
    /// The vCPUs stopped.
    Stop,
    /// The vCPUs run.
    Resume,
    /// The power button was pressed.
    Powerdown,
    /// The machine has ended.
    Shutdown {
        /// Whether the guest wanted it.
        guest: bool,
        /// Why.
        reason: ShutdownReason,
    },
    /// The host could not supply a page of guest memory, and the machine waits for `cont`.
    MemoryStarved(Diagnosis),
}

impl Event {
    /// Its name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Event::BalloonChange { .. } => "BALLOON_CHANGE",
            Event::Stop => "STOP",
            Event::Resume => "RESUME",
            Event::Powerdown => "POWERDOWN",
            Event::Shutdown { .. } => "SHUTDOWN",
            Event::MemoryStarved(_) => "x-ballast-MEMORY_STARVED",
        }
    }

    fn data(&self) -> Option<Value> {
        match self {
            Event::BalloonChange { actual } => Some(json!({ "actual": actual.bytes() })),
            Event::Stop | Event::Resume | Event::Powerdown => None,
            Event::Shutdown { guest, reason } => Some(json!({ "guest": guest, "reason": reason.as_qmp() })),
            // What could not be found out is null.
            Event::MemoryStarved(diagnosis) => Some(json!({
                "address": diagnosis.starvation.address.map(|address| address.0),
                "vcpu": diagnosis.starvation.vcpu,
                "backend": diagnosis.backend,
                "page-size": diagnosis.page_size,
                "policy": diagnosis.nodes,
                "pool": diagnosis.pool,
                "message": diagnosis.to_string(),
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

/// How often `BALLOON_CHANGE` may be sent.
pub const BALLOON_PERIOD: Duration = Duration::from_secs(1);

/// Keeps a stream of values down to one a period. The first goes through at once; of those that come during the period
/// after it, the last goes when the period ends.
#[derive(Debug)]
pub struct RateLimit<T> {
    /// When the period that runs now ends.
    until: Option<Instant>,
    waiting: Option<T>,
}

impl<T> Default for RateLimit<T> {
    fn default() -> RateLimit<T> {
        RateLimit {
            until: None,
            waiting: None,
        }
    }
}

impl<T> RateLimit<T> {
    /// Takes `value`; gives it back when it may go now.
    pub fn offer(&mut self, value: T, now: Instant) -> Option<T> {
        if self.until.is_some_and(|until| now < until) {
            self.waiting = Some(value);
            return None;
        }
        self.until = Some(now + BALLOON_PERIOD);
        self.waiting = None;
        Some(value)
    }

    /// The value that waited, if its time has come.
    pub fn expire(&mut self, now: Instant) -> Option<T> {
        if self.until.is_some_and(|until| now < until) {
            return None;
        }
        let value = self.waiting.take()?;
        self.until = Some(now + BALLOON_PERIOD);
        Some(value)
    }

    /// How long the waiting value has to wait yet.
    pub fn due(&self, now: Instant) -> Option<Duration> {
        let until = self.until.filter(|_| self.waiting.is_some())?;
        Some(until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests;
