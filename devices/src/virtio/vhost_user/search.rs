//! When a daemon that is gone is looked for, and what is told of it.

use std::error::Error;
use std::time::{Duration, Instant};

use super::error::{VhostUserError, chain};
use crate::log_limit::LogLimit;

/// The search for the next daemon of a device.
#[derive(Debug)]
pub(super) struct Search {
    /// Between two looks; none: only the driver's next start is one.
    pause: Option<Duration>,
    due: Option<Instant>,
    /// The log says why the daemon that answers is of no use.
    told: bool,
    limits: Limits,
}

/// Each start of a driver may find a daemon, and have it end.
#[derive(Debug, Default)]
struct Limits {
    gone: LogLimit,
    open: LogLimit,
    back: LogLimit,
}

impl Search {
    /// There is no need for one yet.
    pub(super) fn new(pause: Option<Duration>) -> Search {
        Search {
            pause,
            due: None,
            told: false,
            limits: Limits::default(),
        }
    }

    /// When to look next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// There is no daemon. Returns whether it will be looked for.
    pub(super) fn again(&mut self) -> bool {
        self.due = self.pause.map(|pause| Instant::now() + pause);
        self.due.is_some()
    }

    pub(super) fn is_over(&mut self) {
        (self.due, self.told) = (None, false);
    }

    /// Tells that the daemon has gone.
    pub(super) fn tell_gone(&mut self, id: &str, why: &dyn Error) {
        if let Some(left_out) = self.limits.gone.pass(Instant::now()) {
            let why = chain(why);
            tracing::warn!("device '{id}' has lost its daemon: {why}{left_out}");
        }
    }

    /// Tells that nobody knows which of so many requests it has done.
    pub(super) fn tell_open(&mut self, id: &str, requests: u32) {
        if let Some(left_out) = self.limits.open.pass(Instant::now()) {
            tracing::error!(
                "device '{id}' needs a reset: its daemon kept no record of the {requests} requests that it may have \
                 had in work (VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD){left_out}"
            );
        }
    }

    /// Tells that there is one.
    pub(super) fn tell_back(&mut self, id: &str) {
        if let Some(left_out) = self.limits.back.pass(Instant::now()) {
            tracing::warn!("device '{id}' has a daemon again{left_out}");
        }
    }

    /// Tells why there is still none; that one answers and is of no use once, since somebody has to do something about it.
    pub(super) fn tell(&mut self, id: &str, error: &VhostUserError) {
        let text = chain(error);
        if self.is_news(error) {
            tracing::warn!("device '{id}' has no use for the daemon that answers: {text}");
        } else {
            tracing::debug!("device '{id}' has no daemon yet: {text}");
        }
    }

    fn is_news(&mut self, error: &VhostUserError) -> bool {
        let absent = matches!(error, VhostUserError::Connect(_));
        !absent && !std::mem::replace(&mut self.told, true)
    }
}

#[cfg(test)]
mod tests;
