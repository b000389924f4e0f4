//! The device by which a guest's kernel tells that it has panicked: pvpanic behind PCI, one register of one byte.
//!
//! Reading the register gives the events that are understood, writing it tells one (Linux: `drivers/misc/pvpanic`).

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::action::Action;
use crate::pci::config::{ConfigSpace, Identity};
use crate::pci::{PciFunction, Waits};

/// The guest has panicked.
pub const PANICKED: u8 = 1 << 0;
/// The guest has panicked, and a kernel that it kept for this saves what it can.
pub const CRASH_LOADED: u8 = 1 << 1;

/// As other machines have it, so that the drivers of stock kernels know it.
const IDENTITY: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0011,
    revision: 1,
    class: 0x08_80_00,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};
/// Bytes of its BAR, the least that PCI has.
const BAR_SIZE: u32 = 16;

/// The device. It remembers nothing but its configuration space.
#[derive(Debug)]
pub struct PvPanic {
    config: Mutex<ConfigSpace>,
    initial: ConfigSpace,
}

impl PvPanic {
    /// With its BAR at `bar`, below 4 GiB, not decoded yet.
    #[must_use]
    pub fn new(bar: u64) -> PvPanic {
        let mut initial = ConfigSpace::new(IDENTITY);
        initial.set_bar0(u32::try_from(bar).unwrap_or_default(), BAR_SIZE);
        PvPanic {
            config: Mutex::new(initial.clone()),
            initial,
        }
    }

    fn config(&self) -> MutexGuard<'_, ConfigSpace> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PciFunction for PvPanic {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.config().read(offset.into(), data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Action {
        self.config().write(offset.into(), data);
        Action::None
    }

    fn bar(&self) -> Option<(u64, u64)> {
        let config = self.config();
        let there = config.memory_enabled();
        there.then(|| (config.bar0().into(), BAR_SIZE.into()))
    }

    fn bar_read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        if let (0, [first, ..]) = (offset, data) {
            *first = PANICKED | CRASH_LOADED;
        }
    }

    fn bar_write(&self, offset: u64, data: &[u8]) -> Action {
        match (offset, data) {
            (0, [events, ..]) if events & PANICKED != 0 => Action::Panicked,
            (0, [events, ..]) if events & CRASH_LOADED != 0 => Action::CrashLoaded,
            _ => Action::None,
        }
    }

    fn reset(&self) {
        *self.config() = self.initial.clone();
    }

    fn end(&self, _: &Waits<'_>) {}
}

#[cfg(test)]
mod tests;
