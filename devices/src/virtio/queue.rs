//! Split virtqueues, device side: bounded walks over what a driver made available, on top of `virtio-queue`.

use std::fmt;
use std::sync::atomic::Ordering;

use thiserror::Error;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::GuestAddress;

use super::Memory;
use super::common::QueueRegisters;

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
    /// Chains were returned since the driver was last considered for an interrupt.
    used: bool,
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
            used: false,
            seen: 0,
        })
    }

    /// A queue that the driver has left alone.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn disabled(index: u16) -> VirtQueue {
        VirtQueue {
            index,
            queue: None,
            used: false,
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

    /// Returns the chain that begins at `head`, of which the device has written `len` bytes.
    ///
    /// # Errors
    /// When `head` is no descriptor of this queue, or the used ring cannot be written.
    pub fn add_used(&mut self, memory: &Memory, head: u16, len: u32) -> Result<(), QueueError> {
        let Some(queue) = self.queue.as_mut() else {
            return Ok(());
        };
        self.used = true;
        let broken = |source| QueueError::AddUsed {
            queue: self.index,
            head,
            source,
        };
        queue.add_used(memory, head, len).map_err(broken)
    }

    /// Asks the driver to ring again, and finds out whether it waits for an interrupt.
    pub(crate) fn finish(&mut self, memory: &Memory) -> Result<Finish, QueueError> {
        let index = self.index;
        let broken = |source| QueueError::Notify { queue: index, source };
        let Some(queue) = self.queue.as_mut() else {
            return Ok(Finish::default());
        };
        let interrupt = std::mem::take(&mut self.used) && queue.needs_notification(memory).map_err(broken)?;
        queue.enable_notification(memory).map_err(broken)?;
        // What the device has seen and left alone, such as a network card's receive buffers, is no news.
        let index = queue.avail_idx(memory, Ordering::Acquire).map_err(broken)?.0;
        let more = std::mem::replace(&mut self.seen, index) != index;
        Ok(Finish { interrupt, more })
    }
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
