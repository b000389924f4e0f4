//! Events that a guest can cause at any rate: each kind goes out once a period.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::event::Event;

/// How often an event of one kind may be sent.
pub(super) const PERIOD: Duration = Duration::from_secs(1);

/// Lets the first event of a kind through at once; of those that come during the period after it, the last when the
/// period ends. So nothing is flooded, and what was said last is always true.
#[derive(Debug, Default)]
pub(super) struct Limits {
    /// By name; there are few.
    kinds: BTreeMap<&'static str, Limit>,
}

#[derive(Debug)]
struct Limit {
    /// When the period that runs now ends.
    until: Instant,
    waiting: Option<Event>,
}

impl Limits {
    /// Takes `event`; gives it back when it may go now.
    pub(super) fn offer(&mut self, event: Event, now: Instant) -> Option<Event> {
        if !event.is_limited() {
            return Some(event);
        }
        match self.kinds.get_mut(event.name()) {
            Some(limit) if now < limit.until => {
                limit.waiting = Some(event);
                None
            }
            _ => {
                let (until, waiting) = (now + PERIOD, None);
                self.kinds.insert(event.name(), Limit { until, waiting });
                Some(event)
            }
        }
    }

    /// An event that waited and whose time has come; to be called until there is none.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Event> {
        let mut due = self
            .kinds
            .values_mut()
            .filter(|limit| limit.waiting.is_some() && limit.until <= now);
        let limit = due.next()?;
        limit.until = now + PERIOD;
        limit.waiting.take()
    }

    /// When the next waiting event may go.
    pub(super) fn due(&self) -> Option<Instant> {
        let waiting = self.kinds.values().filter(|limit| limit.waiting.is_some());
        waiting.map(|limit| limit.until).min()
    }
}

#[cfg(test)]
mod tests;
