//! The statistics queue: the driver's one buffer, which is kept until new statistics are wanted (virtio 1.3,
//! §5.5.6.3). To ask is to give it back.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::fault::{Faults, GuestFault};

use super::super::Memory;
use super::super::queue::{QueueError, VirtQueue};
use super::chains::{Budget, read_stats};
use super::pages::give_back;
use super::shared::Shared;
use super::stats::{GuestStats, MAX_BYTES};

/// What became of a look at the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Nothing,
    /// Statistics that nobody asked for.
    Unasked,
    /// Those that were asked for.
    Answer,
}

pub(super) struct StatsQueue {
    shared: Arc<Shared>,
    /// The driver serves it.
    active: bool,
    /// The driver's buffer, while it is here.
    held: Option<u16>,
    /// Somebody wants new statistics, and the driver has not been asked yet.
    wanted: bool,
    /// The driver has been asked, or is about to send its first.
    asked: bool,
    /// When the driver was last asked by poll.
    polled: Instant,
    /// Chains to be given back; kept for its capacity.
    heads: Vec<u16>,
}

impl StatsQueue {
    pub(super) fn new(shared: Arc<Shared>) -> StatsQueue {
        StatsQueue {
            shared,
            active: false,
            held: None,
            wanted: false,
            asked: false,
            polled: Instant::now(),
            heads: Vec::new(),
        }
    }

    /// A driver came, which serves the queue or does not.
    pub(super) fn activate(&mut self, active: bool) {
        self.reset();
        (self.active, self.asked, self.polled) = (active, true, Instant::now());
    }

    /// The driver is gone, and what it said with it.
    pub(super) fn reset(&mut self) {
        (self.active, self.held, self.wanted, self.asked) = (false, None, false, false);
        *self.shared.stats() = None;
    }

    /// When the next poll is due.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        let interval = self.shared.stats_interval.load(Ordering::Relaxed);
        let polls = self.active && interval > 0;
        // An interval beyond what a clock can show never ends.
        polls
            .then(|| self.polled.checked_add(Duration::from_millis(interval)))
            .flatten()
    }

    /// Looks whether statistics are wanted, by the user or by poll.
    pub(super) fn timer(&mut self, now: Instant) {
        self.wanted |= self.shared.stats_wanted.swap(false, Ordering::Relaxed);
        if self.next_timer().is_some_and(|due| due <= now) {
            (self.wanted, self.polled) = (true, now);
        }
    }

    /// Takes what the driver has sent, and asks for more if it is wanted.
    pub(super) fn serve(
        &mut self,
        memory: &Memory,
        queue: &mut VirtQueue,
        faults: &Faults,
    ) -> Result<Heard, QueueError> {
        let mut heard = Heard::Nothing;
        let (index, mut budget) = (queue.index(), Budget::new(queue.size()));
        self.heads.clear();
        for chain in queue.available(memory)? {
            // Of several buffers the last is kept: every other one is the driver's again.
            self.heads.extend(self.held.replace(chain.head()));
            let mut buffer = [0; MAX_BYTES];
            let (bytes, understood) = read_stats(memory, chain, &mut budget, &mut buffer, faults);
            if understood {
                *self.shared.stats() = Some(GuestStats::parse(bytes));
                heard = Heard::Unasked;
            } else {
                // Better none than old ones under a new date.
                *self.shared.stats() = None;
                heard = Heard::Nothing;
                faults.count(GuestFault::VirtioChain { queue: index });
            }
        }
        if heard == Heard::Unasked && std::mem::take(&mut self.asked) {
            heard = Heard::Answer;
        }
        if std::mem::take(&mut self.wanted) {
            // Where the buffer is with the driver, its answer is on the way.
            self.asked = true;
            self.heads.extend(self.held.take());
        }
        give_back(memory, queue, &mut self.heads)?;
        Ok(heard)
    }
}
