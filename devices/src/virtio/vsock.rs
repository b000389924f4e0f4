//! Sockets between a guest's programs and the host's (virtio 1.2, §5.10), without a network: streams, by port.
//!
//! The guest is one end of every connection, the host the other; which program of the host is behind a port, [`HostSockets`] knows.
//! What one call does is bounded in packets, as with a network card.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::fault::{Faults, GuestFault};
use crate::host_sockets::HostSockets;

use super::queue::{QueueError, VirtQueue};
use super::{Description, F_INDIRECT_DESC, Memory, VirtioDevice};

mod callers;
mod connection;
mod connections;
mod credit;
mod packet;

use connections::Connections;
use packet::{Buffer, Header, Op};

/// Virtio device number of the socket device.
const DEVICE_TYPE: u8 = 19;
/// PCI class: another communication controller, as with QEMU.
const CLASS: u32 = 0x07_80_00;
/// Size of each queue.
const QUEUE_SIZE: u16 = 256;
/// To receive, to transmit, and for news that come with a migration only (§5.10.2).
const QUEUES: usize = 3;
/// After so many packets in one direction the driver hears of what is done, and orders are looked for.
const TURN: u16 = 64;
/// The host's context id.
const HOST: u64 = 2;

/// What a socket device is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VsockSpec {
    /// The user's name for it.
    pub id: String,
    /// The guest's context id: 3 or more, less than 2^32 - 1.
    pub guest_cid: u32,
}

/// The device half of a socket device; lives in its worker.
pub struct Vsock {
    spec: VsockSpec,
    config: [u8; 8],
    /// Rung by the device itself, when there is more to do.
    event: EventFd,
    connections: Connections,
    buffer: Buffer,
    /// Bytes of the guest's packet that is looked at.
    heard: Vec<u8>,
    /// A packet for the guest, and how many of its bytes have gone.
    waiting: Option<Header>,
    payload: Vec<u8>,
    placed: usize,
}

impl fmt::Debug for Vsock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vsock")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl Vsock {
    /// A device whose guest talks to programs of `host`.
    ///
    /// # Errors
    /// When no eventfd or epoll instance can be had.
    pub fn new(spec: VsockSpec, host: Box<dyn HostSockets>) -> io::Result<Vsock> {
        let cid = u64::from(spec.guest_cid);
        Ok(Vsock {
            config: cid.to_le_bytes(),
            event: EventFd::new(EFD_NONBLOCK)?,
            connections: Connections::new(cid, host)?,
            buffer: Buffer::default(),
            heard: Vec::new(),
            waiting: None,
            payload: Vec::new(),
            placed: 0,
            spec,
        })
    }

    /// Takes the guest's packets. Returns whether there may be more.
    fn transmit(
        &mut self,
        memory: &Memory,
        queue: &mut VirtQueue,
        faults: &Faults,
    ) -> Result<bool, QueueError> {
        for _ in 0..TURN {
            // Else the answers would fill the host's memory; buffers for them ring too.
            if !self.connections.has_room() {
                return Ok(false);
            }
            let Some(chain) = queue.available(memory)?.next() else {
                return Ok(false);
            };
            let head = chain.head();
            match packet::read(memory, chain, &mut self.heard) {
                Some(header) => self.connections.hear(&header, &self.heard, faults),
                None => faults.count(GuestFault::VirtioChain { queue: queue.index() }),
            }
            queue.add_used(memory, head, 0)?;
        }
        Ok(true)
    }

    /// Gives the guest its packets. Returns whether there may be more.
    fn receive(
        &mut self,
        memory: &Memory,
        queue: &mut VirtQueue,
        faults: &Faults,
    ) -> Result<bool, QueueError> {
        for _ in 0..TURN {
            if self.waiting.is_none() {
                self.placed = 0;
                self.waiting = self.connections.next(&mut self.payload);
            }
            let Some(header) = self.waiting else {
                return Ok(false);
            };
            let Some(chain) = queue.available(memory)?.next() else {
                return Ok(false);
            };
            let head = chain.head();
            let given = self.place(memory, chain, header);
            if given.is_none() {
                faults.count(GuestFault::VirtioChain { queue: queue.index() });
            }
            queue.add_used(memory, head, given.unwrap_or(0))?;
        }
        Ok(true)
    }

    /// Puts the packet, or some more of its bytes as a packet of their own, into a buffer. None: it is no buffer.
    fn place(&mut self, memory: &Memory, chain: super::queue::Chain<'_>, header: Header) -> Option<u32> {
        let room = self.buffer.measure(memory, chain)?;
        let rest = &self.payload[self.placed..];
        let part = &rest[..rest.len().min(room)];
        if part.is_empty() && header.op == Some(Op::Bytes) {
            return None;
        }
        let header = Header {
            len: u32::try_from(part.len()).ok()?,
            ..header
        };
        let given = self.buffer.write(memory, &header, part)?;
        self.placed += part.len();
        if self.placed == self.payload.len() {
            self.waiting = None;
        }
        Some(given)
    }
}

impl VirtioDevice for Vsock {
    fn description(&self) -> Description {
        Description {
            id: self.spec.id.clone(),
            device_type: DEVICE_TYPE,
            class: CLASS,
            features: F_INDIRECT_DESC,
            queue_sizes: vec![QUEUE_SIZE; QUEUES],
            config_writable: Vec::new(),
        }
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn event(&self) -> &EventFd {
        &self.event
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.connections.news())
    }

    fn next_timer(&self) -> Option<Instant> {
        self.connections.deadline()
    }

    fn handle_event(&mut self) {
        self.connections.expire();
    }

    fn process(
        &mut self,
        memory: &Memory,
        queues: &mut [VirtQueue],
        faults: &Faults,
    ) -> Result<(), QueueError> {
        let [receive, transmit, _] = queues else {
            return Ok(());
        };
        self.connections.look();
        let sent = self.transmit(memory, transmit, faults)?;
        let stuck = !self.connections.has_room();
        let received = self.receive(memory, receive, faults)?;
        if sent || received || (stuck && self.connections.has_room()) {
            // A counter that is full rings as well.
            let _ = self.event.write(1);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.connections.clear();
        self.waiting = None;
        self.payload.clear();
    }
}

#[cfg(test)]
mod tests;
