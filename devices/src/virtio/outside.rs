//! Rings that another process serves: what the transport's worker and such a device have to do with each other.

use std::os::fd::RawFd;

use vmm_sys_util::eventfd::EventFd;

/// A ring of a driver that is ready.
#[derive(Debug)]
pub struct OutsideRing {
    /// Number of the queue.
    pub index: u16,
    /// Number of descriptors.
    pub size: u16,
    /// Guest addresses of descriptor table, available ring and used ring; RAM, as far as they reach.
    pub addresses: [u64; 3],
    /// What the driver's kicks ring. Nobody else takes its count.
    pub kick: EventFd,
    /// What interrupts the driver at once; where there is nothing, by way of [`Outside::take_interrupts`].
    pub interrupt: Option<EventFd>,
}

/// A device whose rings another process serves. Its worker leaves the rings and their kicks alone, and only passes on what
/// comes from there; [`super::VirtioDevice::process`] is not called.
pub trait Outside {
    /// The driver is ready and has accepted `features`; these are its queues, without those that it left disabled.
    fn start(&mut self, features: u64, rings: Vec<OutsideRing>);

    /// The driver has moved its vectors: what interrupts it now, by number of queue.
    fn move_interrupts(&mut self, interrupts: Vec<(u16, Option<EventFd>)>);

    /// Becomes readable when the other process has something for us; constant. The worker hears of it each time that something
    /// new comes (edge-triggered).
    fn source(&self) -> RawFd;

    /// The rings may be anybody's memory from now on, until the reset: nobody shall touch them.
    fn silence(&mut self);

    /// Whose interrupts are due: adds the numbers of queues to `interrupts`, at most some dozens in one call. Asked in every
    /// turn of the worker, so also after [`Outside::source`] had something.
    fn take_interrupts(&mut self, interrupts: &mut Vec<u16>);

    /// Whether the device cannot go on until the driver resets it.
    fn is_lost(&self) -> bool;
}
