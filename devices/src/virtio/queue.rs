//! Split virtqueues, device side: bounded walks over what a driver made available, on top of `virtio-queue`.

use std::fmt;
use std::sync::atomic::{Ordering, fence};

use thiserror::Error;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddress};

use super::Memory;
use super::common::QueueRegisters;

/// Bytes of flags and index at the beginning of both rings (virtio 1.2, §2.7.6 and §2.7.8).
const RING_HEADER: u64 = 4;
/// Bytes of an element of the used ring: head and length.
const USED_ELEMENT: usize = 8;

/// Errors of a ring that a driver has set up or filled wrongly. The device needs a reset after one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueueError {
    /// Size or addresses of the rings are not usable.
    #[error("virtqueue {queue} cannot be set up: size {size}, rings at {rings:x?}")]
    SetUp {
        /// The queue's index.
        queue: u16,
        /// The size that the driver chose.
        size: u16,
        /// Guest addresses of descriptor table, available ring, used ring.
        rings: [u64; 3],
    },
    /// The available ring cannot be read, or claims more chains than the queue has room for.
    #[error("available ring of virtqueue {queue} cannot be followed")]
    ReadAvailable {
        /// The queue's index.
        queue: u16,
        /// What `virtio-queue` said.
        source: virtio_queue::Error,
    },
    /// A chain cannot be put into the used ring: its head is no descriptor, or the ring cannot be written.
    #[error("descriptor {head} cannot be returned in virtqueue {queue}")]
    AddUsed {
        /// The queue's index.
        queue: u16,
        /// Index of the chain's first descriptor.
        head: u16,
        /// What `virtio-queue` said.
        source: virtio_queue::Error,
    },
    /// A notification flag in the rings cannot be read or written.
    #[error("notifications of virtqueue {queue} cannot be set")]
    Notify {
        /// The queue's index.
        queue: u16,
        /// What `virtio-queue` said.
        source: virtio_queue::Error,
    },
}

impl QueueError {
    /// The queue that is broken.
    #[must_use]
    pub fn queue(&self) -> u16 {
        match self {
            QueueError::SetUp { queue, .. }
            | QueueError::ReadAvailable { queue, .. }
            | QueueError::AddUsed { queue, .. }
            | QueueError::Notify { queue, .. } => *queue,
        }
    }
}

/// A chain that goes back to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// Index of its first descriptor.
    pub head: u16,
    /// Bytes that the device has written to it.
    pub length: u32,
}

/// What is left to do after a device has served a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Finish {
    /// The driver wants an interrupt.
    pub(crate) interrupt: bool,
    /// More became available meanwhile, and the driver may not ring for it.
    pub(crate) more: bool,
}

/// One queue of a live device.
#[derive(Debug)]
pub struct VirtQueue {
    index: u16,
    /// `None` where the driver left the queue disabled.
    queue: Option<Queue>,
    /// How many chains had been returned when the driver was last considered for an interrupt; counts in circles.
    considered: u16,
    /// The available ring's index when device or worker last looked at it.
    seen: u16,
}

impl VirtQueue {
    /// The queue that the driver described in `registers`.
    pub(crate) fn new(
        index: u16,
        registers: &QueueRegisters,
        features: u64,
        memory: &Memory,
    ) -> Result<VirtQueue, QueueError> {
        let [desc, avail, used] = registers.rings;
        let build = || -> Result<Queue, virtio_queue::Error> {
            let mut queue = Queue::new(registers.max_size)?;
            queue.try_set_size(registers.size)?;
            queue.try_set_desc_table_address(GuestAddress(desc))?;
            queue.try_set_avail_ring_address(GuestAddress(avail))?;
            queue.try_set_used_ring_address(GuestAddress(used))?;
            queue.set_event_idx(features & super::F_EVENT_IDX != 0);
            queue.set_ready(true);
            Ok(queue)
        };
        let queue = match registers.enabled {
            false => None,
            true => {
                let usable = build().ok().filter(|queue| queue.is_valid(memory) && avail != 0);
                let (size, rings) = (registers.size, registers.rings);
                Some(usable.ok_or(QueueError::SetUp {
                    queue: index,
                    size,
                    rings,
                })?)
            }
        };
        Ok(VirtQueue {
            index,
            queue,
            considered: 0,
            seen: 0,
        })
    }

    /// A queue that the driver has left alone.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn disabled(index: u16) -> VirtQueue {
        VirtQueue {
            index,
            queue: None,
            considered: 0,
            seen: 0,
        }
    }

    /// The queue's index.
    #[must_use]
    pub fn index(&self) -> u16 {
        self.index
    }

    /// Number of descriptors; 0 where the driver left the queue disabled.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.queue.as_ref().map_or(0, Queue::size)
    }

    /// The chains that are available now, at most [`VirtQueue::size`] of them. Each one that is taken has to be
    /// returned with [`VirtQueue::add_used`], whatever is wrong with it.
    ///
    /// # Errors
    /// When the ring claims more chains than it has room for, or cannot be read.
    pub fn available<'a>(
        &'a mut self,
        memory: &'a Memory,
    ) -> Result<impl Iterator<Item = Chain<'a>>, QueueError> {
        let index = self.index;
        let broken = move |source| QueueError::ReadAvailable { queue: index, source };
        if let Some(queue) = &self.queue {
            self.seen = queue.avail_idx(memory, Ordering::Acquire).map_err(broken)?.0;
        }
        let chains = self
            .queue
            .as_mut()
            .map(|queue| queue.iter(memory))
            .transpose()
            .map_err(broken)?;
        Ok(chains
            .into_iter()
            .flatten()
            .map(|chain| Chain { chain, last: None }))
    }

    /// Returns the chain that begins at `head`, of which the device has written `length` bytes.
    ///
    /// # Errors
    /// When `head` is no descriptor of this queue, or the used ring cannot be written.
    pub fn add_used(&mut self, memory: &Memory, head: u16, length: u32) -> Result<(), QueueError> {
        self.add_used_together(memory, &[Used { head, length }])
    }

    /// Returns chains, of which the driver sees all or none: at most [`VirtQueue::size`] of them.
    ///
    /// # Errors
    /// As [`VirtQueue::add_used`], and the driver sees none.
    pub fn add_used_together(&mut self, memory: &Memory, chains: &[Used]) -> Result<(), QueueError> {
        let (Some(queue), Some((last, others))) = (self.queue.as_mut(), chains.split_last()) else {
            return Ok(());
        };
        let broken = |head, source| QueueError::AddUsed {
            queue: self.index,
            head,
            source,
        };
        for chain in others {
            write_used(queue, memory, *chain).map_err(|source| broken(chain.head, source))?;
            queue.set_next_used(queue.next_used().wrapping_add(1));
        }
        // This writes the ring's index, which counts those before, too.
        queue
            .add_used(memory, last.head, last.length)
            .map_err(|source| broken(last.head, source))
    }

    /// Asks the driver to ring again, and finds out whether it waits for an interrupt.
    pub(crate) fn finish(&mut self, memory: &Memory) -> Result<Finish, QueueError> {
        let index = self.index;
        let broken = |source| QueueError::Notify { queue: index, source };
        let Some(queue) = self.queue.as_mut() else {
            return Ok(Finish::default());
        };
        let returned = queue.next_used();
        let before = std::mem::replace(&mut self.considered, returned);
        let interrupt = returned != before && wants_interrupt(queue, memory, before).map_err(broken)?;
        queue.enable_notification(memory).map_err(broken)?;
        // What the device has seen and left alone, such as a network card's receive buffers, is no news.
        let index = queue.avail_idx(memory, Ordering::Acquire).map_err(broken)?.0;
        let more = std::mem::replace(&mut self.seen, index) != index;
        Ok(Finish { interrupt, more })
    }
}

/// Writes the element of the used ring that comes next; the driver does not see it before the ring's index.
fn write_used(queue: &Queue, memory: &Memory, chain: Used) -> Result<(), virtio_queue::Error> {
    if chain.head >= queue.size() {
        return Err(virtio_queue::Error::InvalidDescriptorIndex);
    }
    let slot = u64::from(queue.next_used() % queue.size());
    let mut element = [0; USED_ELEMENT];
    element[..4].copy_from_slice(&u32::from(chain.head).to_le_bytes());
    element[4..].copy_from_slice(&chain.length.to_le_bytes());
    let place = ring_address(queue.used_ring(), slot * USED_ELEMENT as u64)?;
    memory
        .write_slice(&element, place)
        .map_err(virtio_queue::Error::GuestMemory)
}

/// Whether the driver waits for one of the chains that were returned since there had been `before` of them (virtio 1.2, §2.7.7).
fn wants_interrupt(queue: &Queue, memory: &Memory, before: u16) -> Result<bool, virtio_queue::Error> {
    if !queue.event_idx_enabled() {
        return Ok(true);
    }
    // The used ring's index is written before the driver's wish is read: it does the same the other way round.
    fence(Ordering::SeqCst);
    // It lies behind the available ring's heads.
    let place = ring_address(queue.avail_ring(), 2 * u64::from(queue.size()))?;
    let event = memory
        .load(place, Ordering::Relaxed)
        .map(u16::from_le)
        .map_err(virtio_queue::Error::GuestMemory)?;
    let returned = queue.next_used();
    Ok(returned.wrapping_sub(event).wrapping_sub(1) < returned.wrapping_sub(before))
}

/// A place in a ring, after its flags and its index.
fn ring_address(ring: u64, offset: u64) -> Result<GuestAddress, virtio_queue::Error> {
    ring.checked_add(RING_HEADER + offset)
        .map(GuestAddress)
        .ok_or(virtio_queue::Error::AddressOverflow)
}

/// One chain of descriptors. Yields at most as many as the queue has (or an indirect table, 65535), loops included.
pub struct Chain<'a> {
    chain: DescriptorChain<&'a Memory>,
    last: Option<Descriptor>,
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chain")
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

impl Chain<'_> {
    /// Index of the first descriptor.
    #[must_use]
    pub fn head(&self) -> u16 {
        self.chain.head_index()
    }

    /// Whether the walk has not reached the end of the chain: it stopped early, or a link leads out of the table or in
    /// a circle, or a descriptor cannot be read.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.last.is_none_or(|last| last.has_next())
    }
}

impl Iterator for Chain<'_> {
    type Item = Descriptor;

    fn next(&mut self) -> Option<Descriptor> {
        let next = self.chain.next();
        if next.is_some() {
            self.last = next;
        }
        next
    }
}

#[cfg(test)]
mod tests;
