//! Interrupts and doorbells, as devices see them. Defined here, implemented where KVM is known.

use std::fmt::Debug;
use std::io;

use vmm_sys_util::eventfd::EventFd;

/// What a device writes to raise a message-signalled interrupt (PCI Local Bus 3.0, §6.8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsiMessage {
    /// The address of the write, normally in the local APICs' window.
    pub address: u64,
    /// The value written: vector and delivery mode.
    pub data: u32,
}

/// One interrupt vector of one device: an eventfd that the host's interrupt controller listens to.
pub trait MsiVector: Send + Sync + Debug {
    /// Sends later triggers as `message`; `None` takes the eventfd off the interrupt controller, so that a masked
    /// vector cannot fire.
    ///
    /// # Errors
    /// What the host's interrupt controller said.
    fn route(&self, message: Option<MsiMessage>) -> io::Result<()>;

    /// What raises the interrupt when another process writes it. What it writes while no message is routed comes with the next
    /// route.
    ///
    /// # Errors
    /// When no descriptor can be had.
    fn bell(&self) -> io::Result<EventFd>;

    /// Raises the interrupt. Called only while a message is routed.
    ///
    /// # Errors
    /// What writing the eventfd said.
    fn trigger(&self) -> io::Result<()>;
}

/// Writes to guest addresses that become an eventfd's count without leaving the kernel (KVM's ioeventfd).
///
/// Any access width and any value rings the bell. A device works without them too: its registers see the same
/// writes, more slowly.
pub trait Doorbells: Send + Sync + Debug {
    /// Rings `kick` on every write to guest address `address`.
    ///
    /// # Errors
    /// What the host said; the caller then relies on the register write itself.
    fn attach(&self, address: u64, kick: &EventFd) -> io::Result<()>;

    /// Undoes one [`Doorbells::attach`] with the same arguments.
    ///
    /// # Errors
    /// What the host said.
    fn detach(&self, address: u64, kick: &EventFd) -> io::Result<()>;
}
