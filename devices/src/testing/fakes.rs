//! Interrupts and doorbells that remember what was done to them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::interrupt::{Doorbells, MsiMessage, MsiVector};

/// An interrupt vector that counts.
#[derive(Debug, Default)]
pub struct FakeVector {
    routes: Mutex<Vec<Option<MsiMessage>>>,
    triggers: AtomicUsize,
    broken: AtomicBool,
    bell: Mutex<Option<EventFd>>,
}

impl FakeVector {
    /// What it is routed to now.
    pub fn route_now(&self) -> Option<MsiMessage> {
        self.routes.lock().unwrap().last().copied().flatten()
    }

    /// Every change of its route.
    pub fn routes(&self) -> Vec<Option<MsiMessage>> {
        self.routes.lock().unwrap().clone()
    }

    /// How often it was raised.
    pub fn triggers(&self) -> usize {
        self.triggers.load(Ordering::SeqCst) + self.rung()
    }

    /// How often others have raised it, by [`MsiVector::bell`]; the count is taken away.
    pub fn rung(&self) -> usize {
        let bell = self.bell.lock().unwrap();
        let count = bell.as_ref().and_then(|bell| bell.read().ok()).unwrap_or(0);
        usize::try_from(count).unwrap()
    }

    /// From now on the host refuses (or again takes) routes.
    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }
}

impl MsiVector for FakeVector {
    fn route(&self, message: Option<MsiMessage>) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::Other.into());
        }
        self.routes.lock().unwrap().push(message);
        Ok(())
    }

    fn bell(&self) -> io::Result<EventFd> {
        let mut bell = self.bell.lock().unwrap();
        if bell.is_none() {
            *bell = Some(EventFd::new(EFD_NONBLOCK)?);
        }
        bell.as_ref().unwrap().try_clone()
    }

    fn trigger(&self) -> io::Result<()> {
        assert!(self.route_now().is_some(), "a vector without a route was raised");
        self.triggers.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

/// Doorbells that a test rings by hand.
#[derive(Debug, Default)]
pub struct FakeDoorbells {
    bells: Mutex<BTreeMap<u64, EventFd>>,
    refuse: AtomicBool,
}

impl FakeDoorbells {
    /// Where doorbells are, sorted.
    pub fn addresses(&self) -> Vec<u64> {
        self.bells.lock().unwrap().keys().copied().collect()
    }

    /// Does what KVM does on a write to `address`. Returns whether there is a doorbell.
    pub fn ring(&self, address: u64) -> bool {
        self.bells
            .lock()
            .unwrap()
            .get(&address)
            .map(|bell| bell.write(1).unwrap())
            .is_some()
    }

    /// From now on every doorbell is refused (or taken again).
    pub fn set_refuse(&self, refuse: bool) {
        self.refuse.store(refuse, Ordering::SeqCst);
    }
}

impl Doorbells for FakeDoorbells {
    fn attach(&self, address: u64, kick: &EventFd) -> io::Result<()> {
        if self.refuse.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        let before = self.bells.lock().unwrap().insert(address, kick.try_clone()?);
        assert!(before.is_none(), "two doorbells at {address:#x}");
        Ok(())
    }

    fn detach(&self, address: u64, _kick: &EventFd) -> io::Result<()> {
        let before = self.bells.lock().unwrap().remove(&address);
        assert!(before.is_some(), "no doorbell to detach at {address:#x}");
        Ok(())
    }
}
