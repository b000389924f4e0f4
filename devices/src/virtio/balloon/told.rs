//! How often the size of a balloon is told. Pure: time is an argument.
//!
//! A driver says after each chain how much it has given, thousands of times in an inflate, and each piece of news wakes
//! another thread. Nobody can follow that, and events of it go out once a second.

use std::time::{Duration, Instant};

/// The least time between two pieces of news.
const PAUSE: Duration = Duration::from_millis(20);

/// When the size was told, and whether it has changed since.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Told {
    last: Option<Instant>,
    /// Since when there is a change that was not told.
    changed: Option<Instant>,
}

impl Told {
    /// The size has changed.
    pub(super) fn change(&mut self, now: Instant) {
        self.changed.get_or_insert(now);
    }

    /// When a change that was not told yet is to be told, if there is one.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let changed = self.changed?;
        Some(self.last.map_or(changed, |last| changed.max(last + PAUSE)))
    }

    /// Whether to tell a change now; then it is told.
    pub(super) fn tell(&mut self, now: Instant) -> bool {
        let due = self.next_timer().is_some_and(|due| due <= now);
        if due {
            (self.last, self.changed) = (Some(now), None);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_change_is_told_at_once_and_the_last_of_many_in_time() {
        let start = Instant::now();
        let mut told = Told::default();
        assert!(!told.tell(start) && told.next_timer().is_none());
        let mut times = Vec::new();
        for millisecond in 0..=100 {
            let now = start + Duration::from_millis(millisecond);
            if millisecond <= 50 {
                told.change(now);
            }
            if told.tell(now) {
                times.push(millisecond);
            }
        }
        assert_eq!(times, [0, 20, 40, 60]);
        assert!(told.next_timer().is_none(), "all is told");
    }
}
