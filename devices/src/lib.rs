//! Device models: PCI, virtio, balloon, serial, power.
//!
//! A device knows [`memory::Ram`] and the traits of this crate, and nothing above them: interrupts and doorbells
//! are given to it ([`interrupt`]), and what a register write asks of the machine is its return value ([`action`]).
//! Whatever a guest writes ends as a register value, a counted [`fault`], or DEVICE_NEEDS_RESET; it never panics and
//! never stops a device's worker.
#![forbid(unsafe_code)]

pub mod action;
pub mod bus;
pub mod disk;
pub mod fault;
pub mod host_sockets;
pub mod interrupt;
pub mod log_limit;
pub mod net;
pub mod pci;
pub mod power;
pub mod pvpanic;
pub mod serial;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod typed;
pub mod virtio;

pub use action::Action;
pub use bus::{Bus, BusDevice, BusError, BusKind};
pub use fault::{Faults, GuestFault};
