//! Which threads wait in the handler. It writes here: atomics only.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Threads that may touch guest memory are fewer: a worker for each device, and those of a start or reset.
const MOST: usize = 64;

/// A thread that waits.
#[derive(Debug)]
pub(super) struct Waiter {
    /// Its pthread_t; 0 for none.
    thread: AtomicU64,
    /// The round that it waits to see the end of.
    round: AtomicU32,
}

static WAITERS: [Waiter; MOST] = [const {
    Waiter {
        thread: AtomicU64::new(0),
        round: AtomicU32::new(0),
    }
}; MOST];

impl Waiter {
    /// Notes that `thread` waits as long as `round` lasts.
    pub(super) fn enter(thread: libc::pthread_t, round: u32) -> Option<&'static Waiter> {
        let free = |waiter: &&Waiter| {
            (waiter.thread)
                .compare_exchange(0, thread, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
        };
        let waiter = WAITERS.iter().find(free)?;
        waiter.round.store(round, Ordering::SeqCst);
        Some(waiter)
    }

    /// Undoes it.
    pub(super) fn leave(&self) {
        self.thread.store(0, Ordering::SeqCst);
    }

    /// Whether `thread` waits, and `round` is not over for it.
    pub(super) fn is_there(thread: libc::pthread_t, round: u32) -> bool {
        let is = |waiter: &Waiter| {
            waiter.thread.load(Ordering::SeqCst) == thread && waiter.round.load(Ordering::SeqCst) == round
        };
        WAITERS.iter().any(is)
    }
}
