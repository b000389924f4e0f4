//! Requests that are better answered a moment later. What the same client sent after one waits with it; the others go on.

use std::time::{Duration, Instant};

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The guest's statistics, for which it was asked.
    Statistics,
    /// A sample of what the host holds, which is being taken.
    Sample,
}

impl Awaited {
    /// How long at most. The guest may never answer; the host does, but it may have terabytes to look at.
    const fn patience(self) -> Duration {
        match self {
            Awaited::Statistics => Duration::from_millis(40),
            Awaited::Sample => Duration::from_secs(10),
        }
    }
}

/// A request that was put off.
#[derive(Debug)]
pub(super) struct PutOff<R> {
    pub(super) request: R,
    pub(super) wait: Wait,
}

/// How it waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    /// For what.
    pub(super) awaited: Awaited,
    /// When it is answered at the latest.
    pub(super) until: Instant,
}

impl<R> PutOff<R> {
    /// From now on.
    pub(super) fn new(request: R, awaited: Awaited) -> PutOff<R> {
        let until = Instant::now() + awaited.patience();
        PutOff {
            request,
            wait: Wait { awaited, until },
        }
    }
}
