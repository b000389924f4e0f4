//! The console (virtio 1.2, §5.3) with its one port, which Linux calls `hvc0`.
//!
//! Both directions wait without losing a byte: input for buffers of the driver, and the driver's buffers, in the ring, for an
//! outlet that takes nothing at the moment.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use vm_memory::Bytes;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::fault::{Faults, GuestFault};
use crate::typed::{InputLine, Typed};

use super::queue::{Chain, QueueError, VirtQueue};
use super::{Description, Memory, VirtioDevice};

/// Virtio device number of the console.
const DEVICE_TYPE: u8 = 3;
/// PCI class: another communication controller, as with QEMU.
const CLASS: u32 = 0x07_80_00;
/// Size of both queues, QEMU's.
const QUEUE_SIZE: u16 = 128;
/// Of the queues of the first port (§5.3.2), which are for input and output, the latter.
const AWAITED: [u16; 1] = [1];
/// Bytes of one chain that are written; Linux puts at most 32 KiB into one.
const MOST: usize = 64 << 10;
/// Bytes that are taken while the outlet has no room. After these the driver waits, and Linux stands still while it does.
const BACKLOG: usize = 64 << 10;
/// How long to wait before an outlet that was full is tried again.
const RETRY: Duration = Duration::from_millis(10);

/// Where output goes. A writer that has no room now says `WouldBlock`, and is asked again; of one that fails otherwise the
/// bytes are lost, as on a line that nobody listens to.
pub type Outlet = Box<dyn Write + Send>;

/// The user's side of a console.
#[derive(Clone, Debug)]
pub struct ConsoleHandle(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Never locked while guest memory is touched, which may wait for the main loop, while that wants to hand on input.
    typed: Mutex<Typed>,
    /// Rung when there is input.
    event: EventFd,
    /// Rung when there is room for input again.
    room: EventFd,
}

impl Shared {
    fn typed(&self) -> MutexGuard<'_, Typed> {
        self.typed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl InputLine for ConsoleHandle {
    fn input(&self, bytes: &[u8]) -> usize {
        let taken = self.0.typed().push(bytes);
        // A full counter is as readable as any other.
        let _ = self.0.event.write(1);
        taken
    }

    fn room(&self) -> &EventFd {
        &self.0.room
    }
}

/// The device half of a console; lives in its worker.
pub struct Console {
    id: String,
    shared: Arc<Shared>,
    outlet: Outlet,
    /// Output of the guest that the outlet has not taken yet.
    pending: Vec<u8>,
    /// When the outlet is tried again.
    wait: Option<Instant>,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Console {
    /// A console that writes to `outlet`, and the handle for its input.
    ///
    /// # Errors
    /// When no eventfd can be had.
    pub fn new(id: String, outlet: Outlet) -> io::Result<(ConsoleHandle, Console)> {
        let shared = Arc::new(Shared {
            typed: Mutex::default(),
            event: EventFd::new(EFD_NONBLOCK)?,
            room: EventFd::new(EFD_NONBLOCK)?,
        });
        let console = Console {
            id,
            shared: Arc::clone(&shared),
            outlet,
            pending: Vec::new(),
            wait: None,
        };
        Ok((ConsoleHandle(shared), console))
    }

    /// Hands on what is pending. False: the outlet has no room, and is tried again.
    fn drain(&mut self) -> bool {
        while !self.pending.is_empty() {
            match self.outlet.write(&self.pending) {
                Ok(count @ 1..) => drop(self.pending.drain(..count.min(self.pending.len()))),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.wait = Some(Instant::now() + RETRY);
                    return false;
                }
                Ok(0) | Err(_) => self.pending.clear(),
            }
        }
        let _ = self.outlet.flush();
        true
    }

    /// Reads the bytes of a chain, which has no more descriptors than the queue. False: it is none that a driver may send.
    fn collect(&mut self, memory: &Memory, mut chain: Chain<'_>) -> bool {
        let most = self.pending.len() + MOST;
        for descriptor in chain.by_ref().take(QUEUE_SIZE.into()) {
            let length = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
            let start = self.pending.len();
            if descriptor.is_write_only() || length > most - start {
                return false;
            }
            self.pending.resize(start + length, 0);
            if memory
                .read_slice(&mut self.pending[start..], descriptor.addr())
                .is_err()
            {
                self.pending.truncate(start);
                return false;
            }
        }
        !chain.is_broken()
    }

    /// Takes the driver's output. Returns whether there may be more.
    fn transmit(
        &mut self,
        memory: &Memory,
        queue: &mut VirtQueue,
        faults: &Faults,
    ) -> Result<bool, QueueError> {
        for _ in 0..queue.size() {
            if self.pending.len() >= BACKLOG && !self.drain() && self.pending.len() >= BACKLOG {
                return Ok(false);
            }
            let Some(chain) = queue.available(memory)?.next() else {
                self.drain();
                return Ok(false);
            };
            let head = chain.head();
            if !self.collect(memory, chain) {
                faults.count(GuestFault::VirtioChain { queue: queue.index() });
            }
            queue.add_used(memory, head, 0)?;
        }
        self.drain();
        Ok(true)
    }

    /// Hands on what was typed. Returns whether there may be more buffers for it.
    fn receive(
        &mut self,
        memory: &Memory,
        queue: &mut VirtQueue,
        faults: &Faults,
    ) -> Result<bool, QueueError> {
        for _ in 0..queue.size() {
            if self.shared.typed().len() == 0 {
                return Ok(false);
            }
            let Some(chain) = queue.available(memory)?.next() else {
                return Ok(false);
            };
            let head = chain.head();
            let given = give(memory, chain, &self.shared);
            if self.shared.typed().has_room_again() {
                // A full counter is as readable as any other.
                let _ = self.shared.room.write(1);
            }
            if given == 0 {
                faults.count(GuestFault::VirtioChain { queue: queue.index() });
            }
            queue.add_used(memory, head, given)?;
        }
        Ok(true)
    }
}

/// Fills a chain with input; how many bytes it got.
fn give(memory: &Memory, chain: Chain<'_>, shared: &Shared) -> u32 {
    let mut given = 0;
    for descriptor in chain.take(QUEUE_SIZE.into()) {
        let room = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
        if shared.typed().len() == 0 || !descriptor.is_write_only() {
            break;
        }
        let bytes = shared.typed().take(room);
        if memory.write_slice(&bytes, descriptor.addr()).is_err() {
            break;
        }
        // Less than was typed, which is little.
        given += u32::try_from(bytes.len()).unwrap_or(0);
    }
    given
}

impl VirtioDevice for Console {
    fn description(&self) -> Description {
        Description {
            id: self.id.clone(),
            device_type: DEVICE_TYPE,
            class: CLASS,
            features: 0,
            queue_sizes: vec![QUEUE_SIZE; 2],
            config_writable: Vec::new(),
        }
    }

    fn config(&self) -> &[u8] {
        &[]
    }

    fn event(&self) -> &EventFd {
        &self.shared.event
    }

    /// Linux waits for each piece of what is written, and of its own messages, in a loop with interrupts off.
    fn awaited(&self) -> &[u16] {
        &AWAITED
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
        let [receive, transmit] = queues else {
            return Ok(());
        };
        let more = [
            self.receive(memory, receive, faults)?,
            self.transmit(memory, transmit, faults)?,
        ];
        if more.contains(&true) {
            // A driver that has rung need not ring again. A full counter is as readable as any other.
            let _ = self.shared.event.write(1);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.pending.clear();
        self.wait = None;
    }
}

#[cfg(test)]
mod tests;
