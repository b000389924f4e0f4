//! The gate that every vCPU thread passes before it enters the guest: open, shut, or gone.
//!
//! Shutting is two steps that this file keeps in order: the flag first, so that a vCPU on its way in sees it, then the
//! kick of [`crate::kvm::kick`], so that a vCPU inside comes out. The one who shut the gate waits until all are parked.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::kvm::kick::Kicker;

/// How long a kicked vCPU may take before it is kicked again. One kick is enough; this bounds the cost of being wrong.
const KICK_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Shut,
    Gone,
}

#[derive(Debug)]
struct State {
    door: Door,
    parked: usize,
}

/// Whether the vCPUs are wanted at their gate: what waits in one of their threads while it serves an exit, without a bound of its
/// own, looks here now and then. On only when they have been kicked, so that none goes back into the guest with it.
#[derive(Clone, Debug, Default)]
pub struct Hurry(Arc<AtomicBool>);

impl Hurry {
    /// Whether to give up waiting.
    pub fn is_on(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    pub(crate) fn set(&self, on: bool) {
        self.0.store(on, Ordering::SeqCst);
    }
}

/// Shared by the vCPU threads, which pass it, and the machine, which opens and shuts it.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    changed: Condvar,
    hurry: Hurry,
}

impl Gate {
    /// A gate that is shut.
    pub fn new(hurry: Hurry) -> Gate {
        Gate {
            state: Mutex::new(State {
                door: Door::Shut,
                parked: 0,
            }),
            changed: Condvar::new(),
            hurry,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is a flag and a count, both valid at any time: a panic elsewhere cannot have broken them.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits while the gate is shut. `released` runs when a wait ends, before anybody can shut the gate again: there a kick
    /// is taken back that has done its work. False means that the machine is gone and the thread shall end.
    pub fn pass(&self, released: impl FnOnce()) -> bool {
        let mut state = self.lock();
        if state.door == Door::Open {
            return true;
        }
        state.parked += 1;
        self.changed.notify_all();
        while state.door == Door::Shut {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.parked -= 1;
        released();
        state.door == Door::Open
    }

    /// Shuts the gate without waiting: what a vCPU thread does when its guest can go no further.
    pub fn halt(&self) {
        let mut state = self.lock();
        if state.door == Door::Open {
            state.door = Door::Shut;
        }
    }

    /// Shuts the gate and waits until all `kickers`' threads are parked, at most `deadline`. True when they are.
    pub fn shut(&self, kickers: &[Kicker], deadline: Duration) -> bool {
        self.halt();
        let end = Instant::now() + deadline;
        loop {
            for kicker in kickers {
                kicker.kick();
            }
            self.hurry.set(true);
            let state = self.lock();
            let (state, _) = self
                .changed
                .wait_timeout_while(state, KICK_AGAIN, |state| state.parked < kickers.len())
                .unwrap_or_else(PoisonError::into_inner);
            if state.parked >= kickers.len() {
                return true;
            }
            if Instant::now() >= end {
                return false;
            }
        }
    }

    /// Lets the vCPUs run.
    pub fn open(&self) {
        let mut state = self.lock();
        if state.door == Door::Shut {
            self.hurry.set(false);
            state.door = Door::Open;
            self.changed.notify_all();
        }
    }

    /// Sends the parked threads home, for good.
    pub fn remove(&self) {
        self.lock().door = Door::Gone;
        self.hurry.set(true);
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests;
