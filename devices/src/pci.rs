//! One PCI segment: functions by device number on bus 0, their configuration space by ECAM, their registers in the
//! 32-bit memory window.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use memory::layout::PCI32_WINDOW_START;
use thiserror::Error;

use crate::action::Action;
use crate::bus::BusDevice;
use crate::fault::{Faults, GuestFault};

pub mod config;
pub mod msix;
mod ports;

use config::{ConfigSpace, Identity};
use ports::ConfigPorts;

pub use ports::{CONFIG_PORT, CONFIG_PORTS};

/// Device numbers on a bus.
const DEVICES: u8 = 32;

/// The host bridge of `00:00.0`, as of other machines with a plain ECAM bridge and nothing else in it.
const HOST_BRIDGE: Identity = Identity {
    vendor: 0x1b36,
    device: 0x0008,
    revision: 0,
    class: 0x06_00_00,
    subsystem_vendor: 0x1af4,
    subsystem: 0x1100,
};

/// Whether a thread waits for a page of guest memory that the host lacks. Where the machine ends, it does so for ever.
pub type Waits<'a> = dyn Fn(&JoinHandle<()>) -> bool + 'a;

/// A single-function PCI device. Called by vCPU threads, several at once; see [`BusDevice`] for the manners.
pub trait PciFunction: Send + Sync {
    /// Reads configuration space: `offset` plus `data.len()` is at most 4096.
    fn config_read(&self, offset: u16, data: &mut [u8]);

    /// Writes configuration space: `offset` plus `data.len()` is at most 4096.
    fn config_write(&self, offset: u16, data: &[u8]) -> Action;

    /// Guest address and length of the memory BAR, while it is decoded.
    fn bar(&self) -> Option<(u64, u64)>;

    /// Reads the memory BAR; the access lies within it.
    fn bar_read(&self, offset: u64, data: &mut [u8]);

    /// Writes the memory BAR; the access lies within it.
    fn bar_write(&self, offset: u64, data: &[u8]) -> Action;

    /// As after power-on, as [`BusDevice::reset`].
    fn reset(&self);

    /// The machine ends: returns when everything that a driver was promised is done and threads are gone, except for those
    /// that wait for memory.
    fn end(&self, waits: &Waits<'_>);
}

/// Errors of putting functions on the bus; never caused by a guest.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PciError {
    /// No such device number, or a taken one.
    #[error("PCI device number {number} is not free: 1 to 31 may be used, each once")]
    Add {
        /// The number asked for.
        number: u8,
    },
}

/// The root complex: bus 0 with the host bridge and the functions added.
pub struct PciRoot {
    functions: Arc<Functions>,
}

struct Functions {
    by_device: RwLock<BTreeMap<u8, Arc<dyn PciFunction>>>,
    faults: Arc<Faults>,
}

impl fmt::Debug for PciRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let functions = self.functions.read();
        f.debug_struct("PciRoot")
            .field("devices", &functions.keys())
            .finish()
    }
}

impl PciRoot {
    /// A root complex with the host bridge only.
    #[must_use]
    pub fn new(faults: Arc<Faults>) -> PciRoot {
        let bridge: Arc<dyn PciFunction> = Arc::new(HostBridge {
            config: ConfigSpace::new(HOST_BRIDGE),
        });
        let by_device = RwLock::new(BTreeMap::from([(0, bridge)]));
        PciRoot {
            functions: Arc::new(Functions { by_device, faults }),
        }
    }

    /// Puts `function` at `00:number.0`.
    ///
    /// # Errors
    /// When `number` is above 31 or taken.
    pub fn add(&self, number: u8, function: Arc<dyn PciFunction>) -> Result<(), PciError> {
        let mut functions = self
            .functions
            .by_device
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if number >= DEVICES || functions.contains_key(&number) {
            return Err(PciError::Add { number });
        }
        functions.insert(number, function);
        Ok(())
    }

    /// The machine ends, and so do the functions, one after the other, as [`PciFunction::end`].
    pub fn end(&self, waits: &Waits<'_>) {
        self.functions
            .read()
            .values()
            .for_each(|function| function.end(waits));
    }

    /// Configuration space by memory access, for [`memory::layout::ECAM_START`] (PCI Express 3.0, §7.2.2).
    #[must_use]
    pub fn ecam(&self) -> Arc<dyn BusDevice> {
        Arc::new(Ecam(Arc::clone(&self.functions)))
    }

    /// Configuration space by I/O ports, for [`CONFIG_PORT`]: the same functions.
    #[must_use]
    pub fn ports(&self) -> Arc<dyn BusDevice> {
        let ecam = Ecam(Arc::clone(&self.functions));
        Arc::new(ConfigPorts {
            ecam,
            address: AtomicU32::new(0),
        })
    }

    /// The functions' memory BARs, for [`PCI32_WINDOW_START`]: each access goes to the function whose BAR is there
    /// now, so a guest may move them.
    #[must_use]
    pub fn window(&self) -> Arc<dyn BusDevice> {
        Arc::new(Window(Arc::clone(&self.functions)))
    }
}

impl Functions {
    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<u8, Arc<dyn PciFunction>>> {
        self.by_device.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The function whose BAR holds all `len` bytes at guest address `address`, and the offset in that BAR.
    fn at(&self, address: u64, len: usize) -> Option<(Arc<dyn PciFunction>, u64)> {
        let end = address.checked_add(u64::try_from(len).ok()?)?;
        self.read().values().find_map(|function| {
            let (base, size) = function.bar()?;
            let inside = base <= address && end <= base.checked_add(size)?;
            inside.then(|| (Arc::clone(function), address - base))
        })
    }

    fn count(&self, address: u64) {
        self.faults.count(GuestFault::UnknownMmio { address });
    }
}

struct Ecam(Arc<Functions>);

impl Ecam {
    /// The function that an ECAM offset names, and the register in its configuration space.
    ///
    /// No function is no fault: reading all ones is how a guest finds out which there are.
    fn find(&self, offset: u64, len: usize) -> Option<(Arc<dyn PciFunction>, u16)> {
        let register = u16::try_from(offset & 0xfff).ok()?;
        if usize::from(register) + len > 0x1000 {
            self.0.faults.count(GuestFault::PciConfig { offset });
            return None;
        }
        // Bits 12 to 14: function, 15 to 19: device, 20 to 27: bus. Only function 0 on bus 0 is ever there.
        let device = u8::try_from(offset >> 15).ok()?;
        let first = offset >> 12 & 0x7 == 0;
        let function = self.0.read().get(&device).filter(|_| first).cloned();
        function.map(|function| (function, register))
    }
}

impl BusDevice for Ecam {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match self.find(offset, data.len()) {
            Some((function, register)) => function.config_read(register, data),
            None => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        let found = self.find(offset, data.len());
        found.map_or(Action::None, |(function, register)| {
            function.config_write(register, data)
        })
    }

    fn reset(&self) {
        // Of all ways to the functions, this one resets them.
        self.0.read().values().for_each(|function| function.reset());
    }
}

struct Window(Arc<Functions>);

impl BusDevice for Window {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let address = PCI32_WINDOW_START.saturating_add(offset);
        match self.0.at(address, data.len()) {
            Some((function, offset)) => function.bar_read(offset, data),
            None => {
                data.fill(0xff);
                self.0.count(address);
            }
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        let address = PCI32_WINDOW_START.saturating_add(offset);
        let Some((function, offset)) = self.0.at(address, data.len()) else {
            self.0.count(address);
            return Action::None;
        };
        function.bar_write(offset, data)
    }

    /// The functions are reset where their configuration space is.
    fn reset(&self) {}
}

/// A bridge that only says that it is one.
struct HostBridge {
    config: ConfigSpace,
}

impl PciFunction for HostBridge {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        self.config.read(usize::from(offset), data);
    }

    fn config_write(&self, _offset: u16, _data: &[u8]) -> Action {
        Action::None
    }

    fn bar(&self) -> Option<(u64, u64)> {
        None
    }

    fn bar_read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0xff);
    }

    fn bar_write(&self, _offset: u64, _data: &[u8]) -> Action {
        Action::None
    }

    /// Nothing of it can be changed.
    fn reset(&self) {}

    fn end(&self, _: &Waits<'_>) {}
}

#[cfg(test)]
mod tests;
