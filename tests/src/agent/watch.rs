//! A thread that looks at the clock without a pause: when it finds that time has leapt, the guest stood still.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A watch under way.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Gaps>,
}

/// The times at which the watching thread did not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gaps {
    /// The longest.
    pub longest: Duration,
    /// All that are longer than [`Gaps::COUNTED`] together.
    pub together: Duration,
}

impl Gaps {
    /// Shorter gaps are the ordinary life of a guest: interrupts, exits, a turn of another thread.
    pub const COUNTED: Duration = Duration::from_millis(1);

    fn add(&mut self, gap: Duration) {
        self.longest = self.longest.max(gap);
        if gap > Gaps::COUNTED {
            self.together += gap;
        }
    }

    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Gaps> {
        let (longest, together) = text.trim().split_once(' ')?;
        Some(Gaps {
            longest: Duration::from_micros(longest.parse().ok()?),
            together: Duration::from_micros(together.parse().ok()?),
        })
    }
}

impl fmt::Display for Gaps {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.longest.as_micros(), self.together.as_micros())
    }
}

impl Watch {
    /// Starts one.
    pub fn start() -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let (mut gaps, mut before) = (Gaps::default(), Instant::now());
            while !asked.load(Ordering::Relaxed) {
                let now = Instant::now();
                gaps.add(now - before);
                before = now;
            }
            gaps
        });
        Watch { stop, thread }
    }

    /// Ends it; nothing if the thread is lost.
    pub fn stop(self) -> Option<Gaps> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok()
    }
}

#[cfg(test)]
mod tests;
