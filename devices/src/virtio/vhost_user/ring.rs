//! One ring of a driver, as a daemon gets it.

use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::EventFd;

use super::error::VhostUserError;
use super::table::Table;
use crate::virtio::Memory;
use crate::virtio::outside::OutsideRing;

/// A ring with what the daemon needs besides: where it goes on, and how it tells of used buffers.
#[derive(Debug)]
pub(super) struct Ring {
    pub(super) ring: OutsideRing,
    /// Our own addresses of its parts, by which the daemon finds them.
    pub(super) places: [u64; 3],
    /// The available ring's index from which the daemon goes on.
    pub(super) base: u16,
    pub(super) call: EventFd,
}

impl Ring {
    /// A ring whose interrupts go to the driver, if they can, and else to `call`.
    ///
    /// # Errors
    /// [`VhostUserError::RingOutside`] where a daemon could not serve it; or when the host has no descriptors left.
    pub(super) fn new(mut ring: OutsideRing, call: &EventFd, table: &Table) -> Result<Ring, VhostUserError> {
        let [desc, avail, used] = ring.addresses;
        let size = u64::from(ring.size);
        // With the index up to which the other side does not want to hear (virtio 1.2, §2.7).
        let places = [
            table.host_address(desc, 16 * size)?,
            table.host_address(avail, 6 + 2 * size)?,
            table.host_address(used, 6 + 8 * size)?,
        ];
        let call = ring.interrupt.take().map_or_else(|| call.try_clone(), Ok);
        Ok(Ring {
            ring,
            places,
            base: 0,
            call: call.map_err(VhostUserError::Host)?,
        })
    }

    /// From now on interrupts go to `call`.
    pub(super) fn set_call(&mut self, call: EventFd) {
        self.call = call;
    }

    /// The daemon is gone: the next one goes on after what this one has answered. Returns how many requests it may have had in
    /// work: of a ring that it had let go, those that it had taken.
    pub(super) fn find_base(&mut self, memory: &Memory, running: bool) -> u16 {
        let [_, available, used] = self.ring.addresses;
        // Rings that the driver has put outside RAM were refused.
        let index = |at: u64| {
            let index = memory.read_obj::<u16>(GuestAddress(at + 2));
            index.map_or(0, u16::from_le)
        };
        let taken = if running { index(available) } else { self.base };
        self.base = index(used);
        taken.wrapping_sub(self.base)
    }
}
