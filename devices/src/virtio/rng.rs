//! The entropy device (virtio 1.2, §5.4): the driver offers buffers, the device fills them with random bytes.
//!
//! A buffer gets what is at hand, at least one byte and at most [`POOL`]; a driver that wants more offers another. When the
//! source has nothing, or the guest has had all that its period allows, buffers wait for the device's timer.

use std::io::{ErrorKind, Read};
use std::ops::Range;
use std::time::{Duration, Instant};

use vm_memory::Bytes;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::fault::{Faults, GuestFault};

use super::queue::{Chain, QueueError, VirtQueue};
use super::{Description, Memory, VirtioDevice};

/// Virtio device number of the entropy source.
const DEVICE_TYPE: u8 = 4;
/// PCI class: none of the defined ones.
const CLASS: u32 = 0x00_ff_00;
/// Size of the queue: drivers have one request under way.
const QUEUE_SIZE: u16 = 8;
/// Bytes taken from the source at once, and given to one buffer at most.
const POOL: usize = 256;
/// How long to wait before a source that had nothing is asked again.
const RETRY: Duration = Duration::from_millis(100);

/// What an entropy device is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RngSpec {
    /// The user's name for it.
    pub id: String,
    /// Bytes that the guest gets in each `period`, at least 1; `None` for as many as it wants.
    pub max_bytes: Option<u64>,
    /// How long a period is; it begins when a guest asks for bytes.
    pub period: Duration,
}

/// Where random bytes come from. A reader that has none now says `WouldBlock`, and is asked again later.
pub type EntropySource = Box<dyn Read + Send>;

/// The kernel's random number generator (getrandom(2)).
#[derive(Clone, Copy, Debug)]
pub struct KernelEntropy;

impl Read for KernelEntropy {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        Ok(rustix::rand::getrandom(
            buffer,
            rustix::rand::GetRandomFlags::NONBLOCK,
        )?)
    }
}

/// The device half of an entropy device; lives in its worker.
pub struct Rng {
    spec: RngSpec,
    source: EntropySource,
    /// Rung by the device itself, when there may be more to do.
    event: EventFd,
    pool: [u8; POOL],
    /// What of the pool nobody has got yet.
    fresh: Range<usize>,
    /// Bytes left in this period, where there is a limit.
    quota: Option<u64>,
    /// When the period ends that has begun.
    period_end: Option<Instant>,
    /// Buffers wait until then.
    wait: Option<Instant>,
    /// The source has failed, and the user has been told.
    told: bool,
}

impl std::fmt::Debug for Rng {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rng")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl Rng {
    /// An entropy device that hands on what `source` has.
    ///
    /// # Errors
    /// When no eventfd can be had.
    pub fn new(spec: RngSpec, source: EntropySource) -> std::io::Result<Rng> {
        Ok(Rng {
            quota: spec.max_bytes,
            spec,
            source,
            event: EventFd::new(EFD_NONBLOCK)?,
            pool: [0; POOL],
            fresh: 0..0,
            period_end: None,
            wait: None,
            told: false,
        })
    }

    /// How many bytes the next buffer may get; 0 and a timer when it has to wait.
    fn ready(&mut self, now: Instant) -> usize {
        if self.period_end.is_some_and(|end| end <= now) {
            (self.period_end, self.quota) = (None, self.spec.max_bytes);
        }
        if self.quota == Some(0) {
            self.wait = self.period_end;
            return 0;
        }
        if self.fresh.is_empty() {
            self.fresh = 0..self.refill();
        }
        if self.fresh.is_empty() {
            self.wait = Some(now + RETRY);
        }
        let quota = self
            .quota
            .map_or(POOL, |left| usize::try_from(left).unwrap_or(POOL));
        self.fresh.len().min(quota)
    }

    /// Asks the source; the user hears once of one that has failed or ended.
    fn refill(&mut self) -> usize {
        let problem = match self.source.read(&mut self.pool) {
            Ok(0) => "it has ended".to_owned(),
            Ok(count) => {
                self.told = false;
                return count.min(POOL);
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return 0,
            Err(error) => error.to_string(),
        };
        if !std::mem::replace(&mut self.told, true) {
            tracing::warn!("'{}' gets nothing from its source: {problem}", self.spec.id);
        }
        0
    }

    /// Fills the buffers of `chain` with at most `room` bytes. Returns how many they were, and whether the whole chain
    /// was understood.
    fn fill(&mut self, memory: &Memory, mut chain: Chain<'_>, room: usize, steps: &mut u16) -> (u32, bool) {
        let (mut given, mut understood) = (0, true);
        while given < room {
            let Some(left) = steps.checked_sub(1) else { break };
            let Some(descriptor) = chain.next() else { break };
            *steps = left;
            if !descriptor.is_write_only() {
                understood = false;
                break;
            }
            let length = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
            let part = length.min(room - given);
            let bytes = self.fresh.start..self.fresh.start + part;
            // What was written before it failed is the guest's, so nobody else may get it.
            self.fresh.start = bytes.end;
            if memory.write_slice(&self.pool[bytes], descriptor.addr()).is_err() {
                understood = false;
                break;
            }
            given += part;
        }
        // Whoever got all that there is has a chain that need not be walked to its end.
        let whole = given == room || !chain.is_broken();
        (u32::try_from(given).unwrap_or(0), understood && whole)
    }

    /// Counts what one chain took from the pool.
    fn charge(&mut self, taken: usize, now: Instant) {
        if let Some(left) = &mut self.quota {
            *left = left.saturating_sub(taken as u64);
            self.period_end.get_or_insert(now + self.spec.period);
        }
    }
}

impl VirtioDevice for Rng {
    fn description(&self) -> Description {
        Description {
            id: self.spec.id.clone(),
            device_type: DEVICE_TYPE,
            class: CLASS,
            features: 0,
            queue_sizes: vec![QUEUE_SIZE],
            config_writable: Vec::new(),
        }
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn event(&self) -> &EventFd {
        &self.event
    }

    fn next_timer(&self) -> Option<Instant> {
        self.wait
    }

    fn handle_event(&mut self) {
        // `process` follows, and waits again if it must.
        self.wait = None;
    }

    fn process(
        &mut self,
        memory: &Memory,
        queues: &mut [VirtQueue],
        faults: &Faults,
    ) -> Result<(), QueueError> {
        let Some(queue) = queues.first_mut() else {
            return Ok(());
        };
        let now = Instant::now();
        // No more descriptors than a queue has, however often chains lead to the same ones.
        let mut steps = queue.size();
        for _ in 0..queue.size() {
            let room = self.ready(now);
            if room == 0 {
                return Ok(());
            }
            let Some(chain) = queue.available(memory)?.next() else {
                return Ok(());
            };
            let head = chain.head();
            let before = self.fresh.start;
            let (given, understood) = self.fill(memory, chain, room, &mut steps);
            if !understood {
                faults.count(GuestFault::VirtioChain { queue: 0 });
            }
            // Some of it may be in a buffer that could not be filled to its end.
            self.charge(self.fresh.start - before, now);
            queue.add_used(memory, head, given)?;
        }
        // There may be more, and a driver that has rung need not ring again. A full counter is as readable as any other.
        let _ = self.event.write(1);
        Ok(())
    }

    fn reset(&mut self) {
        self.wait = None;
    }
}

#[cfg(test)]
mod tests;
