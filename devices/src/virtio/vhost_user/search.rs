//! When a daemon that is gone is looked for, and what is told of it.

use std::time::{Duration, Instant};

use super::error::{VhostUserError, chain};

/// The search for the next daemon of a device.
#[derive(Debug)]
pub(super) struct Search {
    /// Between two looks; none: only the driver's next start is one.
    pause: Option<Duration>,
    due: Option<Instant>,
    /// The log says why the daemon that answers is of no use.
    told: bool,
}

impl Search {
    /// There is no need for one yet.
    pub(super) fn new(pause: Option<Duration>) -> Search {
        Search {
            pause,
            due: None,
            told: false,
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
        *self = Search::new(self.pause);
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
