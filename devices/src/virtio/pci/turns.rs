//! A vCPU's wait for the worker, for drivers that would wait in a loop.
//!
//! The vCPU's thread sleeps in its exit, so that the worker gets a processor even where there are too few: a guest that waits in a
//! loop keeps its own busy until its time slice is over, milliseconds later. It waits for one turn of the worker and not
//! for the device, which may leave the buffer in the ring for as long as it likes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest wait. A worker that lacks a page of guest memory may not come for hours, and a vCPU has to stop with the machine.
const PATIENCE: Duration = Duration::from_millis(10);

/// Turns of a worker, counted by those who asked for one.
#[derive(Debug, Default)]
pub(in crate::virtio) struct Turns {
    state: Mutex<State>,
    over: Condvar,
}

#[derive(Debug, Default)]
struct State {
    asked: u64,
    /// The last one of those that had its turn.
    served: u64,
}

/// A turn that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(in crate::virtio) struct Turn(u64);

impl Turns {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a turn; whoever does wakes the worker then.
    pub(super) fn ask(&self) -> Turn {
        let mut state = self.lock();
        state.asked = state.asked.saturating_add(1);
        Turn(state.asked)
    }

    /// The turn that the worker is about to take, if somebody asked for one.
    pub(in crate::virtio) fn wanted(&self) -> Option<Turn> {
        let state = self.lock();
        (state.served < state.asked).then_some(Turn(state.asked))
    }

    /// The worker has taken `turn`.
    pub(in crate::virtio) fn taken(&self, turn: Turn) {
        self.lock().served = turn.0;
        self.over.notify_all();
    }

    /// There are no more turns, and nobody shall wait for one.
    pub(super) fn end(&self) {
        self.taken(Turn(u64::MAX));
    }

    /// Waits until the worker has taken `turn`, but not for long. Returns whether it has.
    pub(super) fn wait(&self, turn: Turn) -> bool {
        let waits = |state: &mut State| state.served < turn.0;
        let waited = self.over.wait_timeout_while(self.lock(), PATIENCE, waits);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }
}
