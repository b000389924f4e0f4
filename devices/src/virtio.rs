//! Virtio devices (virtio 1.2): what a device has to say and do, and the PCI transport that carries it.
//!
//! Who owns what: the transport ([`pci::VirtioPci`]) holds registers only, under one lock that vCPU threads take for
//! the length of an access. The device value and the rings belong to the device's worker thread; nobody else touches
//! them. The two meet in the registers: the transport leaves orders there (activate, reset, configuration written)
//! and rings an eventfd; the worker publishes the device's configuration and raises interrupts.

use std::fmt;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use vm_memory::GuestMemoryMmap;
use vmm_sys_util::eventfd::EventFd;

pub mod balloon;
pub mod blk;
pub(crate) mod common;
pub mod console;
mod device_config;
pub mod net;
pub mod outside;
pub mod pci;
pub mod queue;
pub mod rng;
mod status;
pub mod vhost_user;
pub mod vsock;
mod worker;

use crate::fault::Faults;

use outside::Outside;
use queue::{QueueError, VirtQueue};

/// Guest RAM as rings and descriptors address it.
pub type Memory = GuestMemoryMmap<()>;

/// VIRTIO_F_VERSION_1: offered by every device and required of every driver.
pub const F_VERSION_1: u64 = 1 << 32;
/// VIRTIO_F_INDIRECT_DESC: a request may take one descriptor of the ring only.
pub const F_INDIRECT_DESC: u64 = 1 << 28;
/// VIRTIO_F_EVENT_IDX: offered by the transport for every device.
pub const F_EVENT_IDX: u64 = 1 << 29;

/// What a virtio device is, apart from its behaviour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The user's name for it; its worker thread is called so.
    pub id: String,
    /// Virtio device number (virtio 1.2, §5), for example 5 for the balloon.
    pub device_type: u8,
    /// PCI class, subclass and programming interface.
    pub class: u32,
    /// Feature bits that the device itself serves; the transport adds its own.
    pub features: u64,
    /// The largest size of each queue, each a power of two up to 32768. At most 1024 queues.
    pub queue_sizes: Vec<u16>,
    /// The bytes of the device configuration that a driver may write.
    pub config_writable: Vec<Range<usize>>,
}

impl Description {
    /// How many MSI-X vectors the device can make use of: one for each queue and one for its configuration.
    #[must_use]
    pub fn vectors(&self) -> usize {
        self.queue_sizes.len().saturating_add(1)
    }
}

/// The device half of a virtio device. Lives in its worker thread, so no method needs to share anything.
///
/// The worker calls `activate`, then `process` for each kick, event and timer, `handle_event` and `config_written` at any
/// time, and `reset` when driver or machine ask for it; after `reset` the device is as new, but for what its user has set.
/// No method panics on anything that a guest wrote.
pub trait VirtioDevice: Send + fmt::Debug {
    /// What the device is; constant.
    fn description(&self) -> Description;

    /// The device configuration as a driver shall read it now. Its length is constant, at most 4096 bytes.
    ///
    /// The worker looks after every call of the methods below; what differs, apart from bytes that the driver may
    /// write, is published with a new generation and an interrupt.
    fn config(&self) -> &[u8];

    /// Becomes readable when the device's user wants something of it. The worker clears it.
    fn event(&self) -> &EventFd;

    /// What brings the device work from elsewhere, as a network does; constant. `process` follows each time that something new
    /// comes in, not for as long as something is there (edge-triggered): a device that leaves it there hears of it no more.
    fn source(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// The device, where another process serves its rings; constant.
    fn outside(&mut self) -> Option<&mut dyn Outside> {
        None
    }

    /// Queues whose driver does nothing but look until the device has taken its buffer; constant. Kicks of these are exits of the
    /// guest, which last until the worker has had its turn, but not long.
    fn awaited(&self) -> &[u16] {
        &[]
    }

    /// When the device wants to be called although nothing happens; asked after everything that the worker does.
    fn next_timer(&self) -> Option<Instant> {
        None
    }

    /// The driver is ready (DRIVER_OK) and has accepted `features`.
    fn activate(&mut self, _features: u64) {}

    /// [`VirtioDevice::event`] was readable, or the moment of [`VirtioDevice::next_timer`] has come; the next one that
    /// it names lies after that. `process` follows, if the queues are live.
    fn handle_event(&mut self) {}

    /// The driver wrote configuration: `config` is all of it, the written bytes included.
    fn config_written(&mut self, _config: &[u8]) {}

    /// Serves every buffer that is available in `queues`, which are all the device's, enabled or not.
    ///
    /// The work of one call is bounded by the queues' sizes. What arrives meanwhile waits for the next call. What the
    /// driver did wrong is counted in `faults`.
    ///
    /// # Errors
    /// When a ring cannot be used: the device then needs a reset, and `process` is not called before it.
    fn process(
        &mut self,
        memory: &Memory,
        queues: &mut [VirtQueue],
        faults: &Faults,
    ) -> Result<(), QueueError>;

    /// The rings are gone: forget the driver.
    fn reset(&mut self);
}
