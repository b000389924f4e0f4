//! Finds vCPUs that try for ever to get a page that the host does not have.
//!
//! A guest's access to such a page does not make KVM_RUN fail while the guest's interrupts are on: KVM takes the fault for
//! one that needs time, lets the vCPU wait for the page (virt/kvm/async_pf.c), and takes the same fault again. From outside
//! the vCPU seems to sleep. Only KVM's statistics show it: faults are taken and none of them is brought to an end.

use std::time::{Duration, Instant};

use crate::kvm::stats::FaultStats;

/// How often the statistics are read.
pub const INTERVAL: Duration = Duration::from_millis(250);
/// Faults in one interval that a healthy guest does not leave without end: one that waits for swapped pages has each of its
/// faults counted as served when the page is there.
const MANY: u64 = 32;
/// Intervals in a row that must show it.
const ROUNDS: u32 = 2;

#[derive(Debug)]
struct Suspect {
    stats: FaultStats,
    unserved: u64,
    rounds: u32,
}

/// Watches the vCPUs of a machine.
#[derive(Debug)]
pub struct Watch {
    suspects: Vec<Suspect>,
    last: Instant,
}

impl Watch {
    /// Watches these vCPUs, in the order of their indices.
    pub fn new(stats: Vec<FaultStats>) -> Watch {
        let suspects = stats
            .into_iter()
            .map(|stats| Suspect {
                stats,
                unserved: 0,
                rounds: 0,
            })
            .collect();
        Watch {
            suspects,
            last: Instant::now(),
        }
    }

    /// Forgets what was seen: the vCPUs stood still.
    pub fn restart(&mut self) {
        self.last = Instant::now();
        for suspect in &mut self.suspects {
            suspect.rounds = 0;
            suspect.unserved = suspect.stats.unserved().unwrap_or(0);
        }
    }

    /// The index of a vCPU that is starving. Does nothing before [`INTERVAL`] has passed since the last time.
    pub fn look(&mut self) -> Option<u8> {
        if self.last.elapsed() < INTERVAL {
            return None;
        }
        self.last = Instant::now();
        let mut found = None;
        for (index, suspect) in (0..).zip(&mut self.suspects) {
            let now = match suspect.stats.unserved() {
                Ok(now) => now,
                Err(error) => {
                    tracing::debug!("cannot read the statistics of vCPU {index}: {error}");
                    continue;
                }
            };
            suspect.rounds = rounds(suspect.rounds, suspect.unserved, now);
            suspect.unserved = now;
            if suspect.rounds >= ROUNDS {
                found = found.or(Some(index));
            }
        }
        found
    }
}

/// How many intervals in a row look like starvation, after `rounds` of them and one from `before` to `now` unserved faults.
fn rounds(rounds: u32, before: u64, now: u64) -> u32 {
    if now.saturating_sub(before) >= MANY {
        rounds + 1
    } else {
        0
    }
}

#[cfg(test)]
mod tests;
