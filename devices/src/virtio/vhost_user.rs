//! Devices that a daemon serves (vhost-user): the daemon maps the guest's memory and works on the rings itself; we carry
//! features, configuration, addresses and event descriptors between driver and daemon, and watch over the connection.
//!
//! A daemon is trusted with the guest's memory, which it has until it lets go of it, and with nothing else: it may be slow,
//! silent, wrong or gone, and the worker then waits for a bounded time, drops the connection, and says so.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use memory::ram::Ram;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

mod channel;
mod device;
mod error;
mod kind;
mod link;
mod ring;
mod search;
mod table;

pub use device::VhostUser;
pub use error::VhostUserError;
pub use kind::Kind;

use link::{Link, Offer};

/// Most queues that a device may have.
pub const MAX_QUEUES: u16 = 64;
/// How to reach a daemon.
pub trait Dial: Send + fmt::Debug {
    /// A new connection; does not wait.
    ///
    /// # Errors
    /// What the system says: `ConnectionRefused` and `NotFound` when there is no daemon.
    fn dial(&self) -> io::Result<UnixStream>;
}

/// What a device that a daemon serves is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhostUserSpec {
    /// The user's name for it.
    pub id: String,
    /// What it is.
    pub kind: Kind,
    /// Number of queues; a daemon that serves fewer decides.
    pub queues: u16,
    /// How long to wait before looking for a daemon that has gone away; `None`: do not look until the driver resets the device.
    pub reconnect: Option<Duration>,
}

/// A device from outside its worker; cheap to clone, and never waits for the daemon.
#[derive(Clone, Debug)]
pub struct VhostUserHandle {
    paused: Arc<AtomicBool>,
    connected: Arc<AtomicBool>,
    event: Arc<EventFd>,
}

impl VhostUserHandle {
    /// Of a device that is not there yet.
    ///
    /// # Errors
    /// When no eventfd can be had.
    pub fn new() -> io::Result<VhostUserHandle> {
        Ok(VhostUserHandle {
            paused: Arc::default(),
            connected: Arc::default(),
            event: Arc::new(EventFd::new(EFD_NONBLOCK)?),
        })
    }

    /// Whether there is a daemon.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// The machine stops, or goes on: has the daemon let go of the rings, or serve them again.
    ///
    /// # Errors
    /// When the worker cannot be woken.
    pub fn pause(&self, paused: bool) -> io::Result<()> {
        self.paused.store(paused, Ordering::Release);
        self.event.write(1)
    }
}

/// A daemon that has answered, before there is guest memory to give it.
#[derive(Debug)]
pub struct Introduced {
    spec: VhostUserSpec,
    dial: Box<dyn Dial>,
    link: Link,
    offer: Offer,
}

impl Introduced {
    /// Finds the daemon, and what it offers.
    ///
    /// # Errors
    /// When there is none, or it does not serve what is wanted.
    pub fn new(mut spec: VhostUserSpec, dial: Box<dyn Dial>) -> Result<Introduced, VhostUserError> {
        let stream = dial.dial().map_err(VhostUserError::Connect)?;
        let (link, offer) = Link::open(stream, &spec.kind, spec.queues)?;
        spec.queues = spec.queues.min(offer.queues).min(MAX_QUEUES);
        let (least, what) = spec.kind.least_queues();
        if spec.queues < least {
            return Err(VhostUserError::Lacks { what });
        }
        Ok(Introduced {
            spec,
            dial,
            link,
            offer,
        })
    }

    /// The device in a guest with this memory.
    ///
    /// # Errors
    /// [`VhostUserError::NotShared`]; or when the host has no descriptors left.
    pub fn with(self, ram: Ram) -> Result<(VhostUserHandle, VhostUser), VhostUserError> {
        VhostUser::new(self, ram)
    }
}

#[cfg(test)]
mod tests;
