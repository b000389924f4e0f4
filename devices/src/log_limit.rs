//! Log lines that a guest can cause at any rate: one a second.
//!
//! Each place that writes such a line has a limit of its own for it, in the device that it belongs to. What the guest did wrong is
//! counted by [`crate::fault`] instead.

use std::fmt;
use std::time::{Duration, Instant};

/// The least time between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// When one line may be written again.
#[derive(Debug, Default)]
pub struct LogLimit {
    last: Option<Instant>,
    left_out: u64,
}

/// How many lines were left out since the one before; to be put at the end of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut(u64);

impl LogLimit {
    /// Whether the line may be written at `now`; where not, it counts as left out.
    pub fn pass(&mut self, now: Instant) -> Option<LeftOut> {
        if self.last.is_some_and(|last| now < last + INTERVAL) {
            self.left_out = self.left_out.saturating_add(1);
            return None;
        }
        self.last = Some(now);
        Some(LeftOut(std::mem::take(&mut self.left_out)))
    }
}

/// Nothing where there were none.
impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} such lines were left out before)"),
        }
    }
}

#[cfg(test)]
mod tests;
