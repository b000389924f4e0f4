//! Finds vCPUs that try for ever to get a page that the host does not have.
//!
//! A guest's access to such a page does not make KVM_RUN fail while the guest's interrupts are on: KVM takes the fault for
//! one that needs time, lets the vCPU wait for the page (virt/kvm/async_pf.c), and takes the same fault again. From outside
//! the vCPU seems to sleep. Only KVM's statistics show it: faults are taken and none of them is brought to an end.

use std::io;
use std::time::{Duration, Instant};

use memory::backend::BackendKind;
use memory::ram::{OpenBackend, Ram};

use crate::kvm::kick::ExitFlag;
use crate::kvm::stats::{FaultCount, FaultStats};
use crate::kvm::vcpu::Vcpu;

/// How often the statistics are read.
pub const INTERVAL: Duration = Duration::from_millis(250);
/// Faults in one interval, at least, when a vCPU tries again and again.
const MANY: u64 = 32;
/// A healthy vCPU has one fault in this many served, at least: also one whose faults need several tries.
const HARDLY: u64 = 8;
/// Intervals in a row that must show it.
const ROUNDS: u32 = 2;

/// What [`Watch::look`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// [`INTERVAL`] has not passed since the last look.
    TooEarly,
    /// All vCPUs get what they need.
    Fine,
    /// The vCPU with this index gets nowhere.
    Stuck(u8),
}

#[derive(Debug)]
struct Suspect {
    stats: FaultStats,
    count: FaultCount,
    rounds: u32,
}

/// Watches the vCPUs of a machine.
#[derive(Debug)]
pub struct Watch {
    suspects: Vec<Suspect>,
    last: Instant,
}

impl Watch {
    /// A watch over the vCPUs, where pages can run out: in a pool of huge pages, whose reservation a balloon gives up, and in
    /// a file system with a limit. Ordinary memory does not run out in this way; the kernel's OOM killer acts before.
    pub fn over(ram: &Ram, vcpus: &[(Vcpu, ExitFlag)]) -> Option<Watch> {
        let limited = |backend: &OpenBackend| {
            backend.page_size().is_huge() || matches!(backend.spec().kind, BackendKind::File { .. })
        };
        if !ram.backends().iter().any(limited) {
            return None;
        }
        let stats = vcpus
            .iter()
            .map(|(vcpu, _)| vcpu.fault_stats())
            .collect::<io::Result<Vec<_>>>();
        // Files are looked at all the same.
        let stats = stats.unwrap_or_else(|error| {
            tracing::warn!("missing pages will show late: no statistics of this KVM: {error}");
            Vec::new()
        });
        Some(Watch::new(stats))
    }

    /// Watches these vCPUs, in the order of their indices.
    pub fn new(stats: Vec<FaultStats>) -> Watch {
        let suspects = stats
            .into_iter()
            .map(|stats| Suspect {
                stats,
                count: FaultCount::default(),
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
            suspect.count = suspect.stats.count().unwrap_or_default();
        }
    }

    /// Looks for a vCPU that gets nowhere; whether the host is short of pages is for the caller to say.
    pub fn look(&mut self) -> Finding {
        if self.last.elapsed() < INTERVAL {
            return Finding::TooEarly;
        }
        self.last = Instant::now();
        let mut found = None;
        for (index, suspect) in (0..).zip(&mut self.suspects) {
            let now = match suspect.stats.count() {
                Ok(now) => now,
                Err(error) => {
                    tracing::debug!("cannot read the statistics of vCPU {index}: {error}");
                    continue;
                }
            };
            suspect.rounds = if is_stuck(suspect.count, now) {
                suspect.rounds + 1
            } else {
                0
            };
            suspect.count = now;
            if suspect.rounds >= ROUNDS {
                found = found.or(Some(index));
            }
        }
        found.map_or(Finding::Fine, Finding::Stuck)
    }
}

/// Whether many faults were taken between two counts and hardly any was served.
fn is_stuck(before: FaultCount, now: FaultCount) -> bool {
    let taken = now.taken.saturating_sub(before.taken);
    let served = now.served.saturating_sub(before.served);
    taken >= MANY && served < taken / HARDLY
}

#[cfg(test)]
mod tests;
