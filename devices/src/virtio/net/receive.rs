//! Frames of the network, into the driver's buffers.
//!
//! A frame is read into memory of ours first: how long it is nobody knows before, a driver that merges buffers gives each 1.5 KiB,
//! and 64 KiB of them would have to be looked up for every frame, however short. One frame at most waits here for buffers;
//! all others stay in the network, which drops what is too much.

use std::io::ErrorKind;

use vm_memory::{Address, Bytes, GuestAddress};

use super::features::{F_GUEST_CSUM, F_GUEST_ECN, F_GUEST_TSO4, F_GUEST_TSO6};
use super::send::MIN_FRAME;
use super::{TURN, Turn};
use crate::fault::{Faults, GuestFault};
use crate::net::{HEADER, MAX_FRAME, Network};
use crate::virtio::Memory;
use crate::virtio::queue::{Chain, QueueError, Used, VirtQueue};

/// Fields of the header.
const FLAGS: usize = 0;
const GSO_TYPE: usize = 1;
const NUM_BUFFERS: usize = 10;
/// VIRTIO_NET_HDR_F_NEEDS_CSUM.
const NEEDS_CSUM: u8 = 1;
/// VIRTIO_NET_HDR_GSO_ECN, which comes with one of the others.
const GSO_ECN: u8 = 0x80;
/// VIRTIO_NET_HDR_GSO_TCPV4 and _TCPV6, and what a driver has accepted who can take them.
const GSO: [(u8, u64); 2] = [(1, F_GUEST_TSO4), (4, F_GUEST_TSO6)];

/// Descriptors of one chain that are looked at.
const MAX_DESCRIPTORS: usize = 256;

/// A chain that cannot be written.
struct Broken;

/// The way in.
#[derive(Debug)]
pub(super) struct Receiver {
    features: u64,
    merge: bool,
    buffer: Box<[u8]>,
    /// Bytes of the frame in `buffer`; 0 for none.
    length: usize,
    /// How many of them the driver's buffers have.
    placed: usize,
    /// Buffers with the frame's beginning. The driver has to get all of a frame's at once: it takes what follows a part of them for
    /// frames of their own (§5.1.6.4).
    filled: Vec<Used>,
    /// Where the driver will read the two bytes of `num_buffers`.
    count_at: [GuestAddress; 2],
}

impl Receiver {
    pub(super) fn new() -> Receiver {
        Receiver {
            features: 0,
            merge: false,
            buffer: vec![0; HEADER + MAX_FRAME].into(),
            length: 0,
            placed: 0,
            filled: Vec::new(),
            count_at: [GuestAddress(0); 2],
        }
    }

    /// For a new driver, or none; what waited for the one before is lost.
    pub(super) fn start(&mut self, features: u64, merge: bool) {
        (self.features, self.merge) = (features, merge);
        self.forget();
    }

    fn forget(&mut self) {
        (self.length, self.placed) = (0, 0);
        self.filled.clear();
    }

    /// Fills the buffers that are available.
    pub(super) fn serve(
        &mut self,
        network: &mut dyn Network,
        memory: &Memory,
        queue: &mut VirtQueue,
        faults: &Faults,
    ) -> Result<Turn, QueueError> {
        for _ in 0..TURN {
            if self.length == 0 {
                match network.receive(&mut self.buffer) {
                    Ok(length) => self.accept(length),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Turn::Idle),
                    Err(error) => return Ok(Turn::Lost(error)),
                }
            }
            if self.length > 0 && !self.fill(memory, queue, faults)? {
                return Ok(Turn::Idle);
            }
        }
        Ok(Turn::Full)
    }

    /// Takes what was received for a frame, unless the driver could not make sense of it: it may have been on its way since the
    /// driver before.
    fn accept(&mut self, length: usize) {
        if !(HEADER + MIN_FRAME..=self.buffer.len()).contains(&length) || !self.suits() {
            tracing::trace!(length, "a frame for another driver");
            return;
        }
        if self.features & F_GUEST_CSUM == 0 {
            // It does not know what they mean (§5.1.6.4.1).
            self.buffer[FLAGS] = 0;
        }
        self.buffer[NUM_BUFFERS..HEADER].copy_from_slice(&1_u16.to_le_bytes());
        self.length = length;
    }

    fn suits(&self) -> bool {
        let has = |feature| self.features & feature != 0;
        let gso = self.buffer[GSO_TYPE];
        let kind = match gso & !GSO_ECN {
            0 => gso == 0,
            kind => GSO.iter().any(|(known, feature)| *known == kind && has(*feature)),
        };
        let ecn = gso & GSO_ECN == 0 || has(F_GUEST_ECN);
        let checksum = self.buffer[FLAGS] & NEEDS_CSUM == 0 || has(F_GUEST_CSUM);
        kind && ecn && checksum
    }

    /// Puts the frame, or some more of it, into the next buffer. Returns whether there was one.
    fn fill(&mut self, memory: &Memory, queue: &mut VirtQueue, faults: &Faults) -> Result<bool, QueueError> {
        let Some(chain) = queue.available(memory)?.next() else {
            return Ok(false);
        };
        let head = chain.head();
        let Ok(given) = self.write(memory, chain) else {
            faults.count(GuestFault::VirtioChain { queue: queue.index() });
            queue.add_used(memory, head, 0)?;
            return Ok(true);
        };
        self.placed += given;
        // A frame is shorter than 4 GiB.
        let length = u32::try_from(given).unwrap_or(u32::MAX);
        self.filled.push(Used { head, length });
        let done = self.placed == self.length;
        if done {
            self.count(memory);
        } else if self.merge && self.filled.len() < usize::from(queue.size()) {
            return Ok(true);
        }
        if !done {
            // What fits into no buffer, or not into all that there are, is dropped: they come back empty.
            self.filled.iter_mut().for_each(|used| used.length = 0);
        }
        queue.add_used_together(memory, &self.filled)?;
        self.forget();
        Ok(true)
    }

    /// Writes what is left of the frame into a chain, or as much as it takes.
    fn write(&mut self, memory: &Memory, mut chain: Chain<'_>) -> Result<usize, Broken> {
        let mut at = self.placed;
        for descriptor in chain.by_ref().take(MAX_DESCRIPTORS) {
            if !descriptor.is_write_only() {
                return Err(Broken);
            }
            let room = usize::try_from(descriptor.len()).unwrap_or(usize::MAX);
            let part = &self.buffer[at..self.length];
            let part = &part[..part.len().min(room)];
            memory.write_slice(part, descriptor.addr()).map_err(|_| Broken)?;
            for (byte, address) in (NUM_BUFFERS..).zip(&mut self.count_at) {
                if (at..at + part.len()).contains(&byte) {
                    *address = descriptor.addr().unchecked_add((byte - at) as u64);
                }
            }
            at += part.len();
            if at == self.length {
                return Ok(at - self.placed);
            }
        }
        // Nothing is no buffer, and one whose end is not to be found may be longer than it looks.
        if at == self.placed || chain.is_broken() {
            return Err(Broken);
        }
        Ok(at - self.placed)
    }

    /// Says in the header how many buffers the frame has.
    fn count(&self, memory: &Memory) {
        let count = u16::try_from(self.filled.len()).unwrap_or(u16::MAX);
        if count > 1 {
            for (byte, address) in count.to_le_bytes().into_iter().zip(self.count_at) {
                // It could be written a moment ago.
                let _ = memory.write_obj(byte, address);
            }
        }
    }
}
