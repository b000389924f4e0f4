//! Address ranges and the devices in them: one [`Bus`] for I/O ports, one for memory-mapped registers.

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use crate::action::Action;
use crate::fault::{Faults, GuestFault};

/// A device with registers. Called by vCPU threads, several at once.
///
/// `data` is 1 to 8 bytes, little-endian as the guest sees it, and lies within the device's range. Whatever a guest
/// reads or writes, an implementation neither panics nor blocks for long.
pub trait BusDevice: Send + Sync {
    /// Reads `data.len()` bytes at `offset` from the start of the range.
    fn read(&self, offset: u64, data: &mut [u8]);

    /// Writes `data` at `offset` from the start of the range, and says what the machine has to do.
    fn write(&self, offset: u64, data: &[u8]) -> Action;

    /// As after power-on. When it returns, the device has let go of guest memory. No vCPU runs meanwhile.
    fn reset(&self);
}

/// Which addresses a bus carries: decides how an access to nowhere is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BusKind {
    /// I/O ports.
    Ports,
    /// Guest-physical addresses.
    Mmio,
}

/// Errors of building a bus; never caused by a guest.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BusError {
    /// The range is empty or ends beyond the 64-bit addresses.
    #[error("bus range at {base:#x} of {len:#x} bytes is empty or too long")]
    CheckRange {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Another device is there.
    #[error("bus range at {base:#x} of {len:#x} bytes overlaps the one at {other:#x}")]
    Insert {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
        /// First address of the range in the way.
        other: u64,
    },
}

struct Entry {
    base: u64,
    /// Last address, inclusive.
    last: u64,
    device: Arc<dyn BusDevice>,
}

/// Devices by address. Built once, then shared by the vCPU threads without a lock.
pub struct Bus {
    kind: BusKind,
    faults: Arc<Faults>,
    /// Sorted by `base`, never overlapping.
    entries: Vec<Entry>,
}

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ranges: Vec<_> = self.entries.iter().map(|entry| entry.base..=entry.last).collect();
        f.debug_struct("Bus")
            .field("kind", &self.kind)
            .field("ranges", &ranges)
            .finish()
    }
}

impl Bus {
    /// An empty bus, which counts accesses to nowhere in `faults`.
    #[must_use]
    pub fn new(kind: BusKind, faults: Arc<Faults>) -> Bus {
        Bus {
            kind,
            faults,
            entries: Vec::new(),
        }
    }

    /// Puts `device` at the `len` addresses from `base`.
    ///
    /// # Errors
    /// When the range is empty, ends beyond the last address, or overlaps another.
    pub fn insert(&mut self, base: u64, len: u64, device: Arc<dyn BusDevice>) -> Result<(), BusError> {
        let last = len.checked_sub(1).and_then(|span| base.checked_add(span));
        let last = last.ok_or(BusError::CheckRange { base, len })?;
        let place = self.entries.partition_point(|entry| entry.last < base);
        if let Some(next) = self.entries.get(place)
            && next.base <= last
        {
            return Err(BusError::Insert {
                base,
                len,
                other: next.base,
            });
        }
        self.entries.insert(place, Entry { base, last, device });
        Ok(())
    }

    /// Reads `data.len()` bytes at `address`: all ones, and a fault, where no device takes the whole access.
    pub fn read(&self, address: u64, data: &mut [u8]) {
        match self.find(address, data.len()) {
            Some((offset, device)) => device.read(offset, data),
            None => {
                data.fill(0xff);
                self.count(address);
            }
        }
    }

    /// Writes `data` at `address`: nothing, and a fault, where no device takes the whole access.
    pub fn write(&self, address: u64, data: &[u8]) -> Action {
        match self.find(address, data.len()) {
            Some((offset, device)) => device.write(offset, data),
            None => {
                self.count(address);
                Action::None
            }
        }
    }

    /// Resets all devices, with the machine: no vCPU runs meanwhile.
    pub fn reset(&self) {
        self.entries.iter().for_each(|entry| entry.device.reset());
    }

    /// The device whose range holds all `len` bytes at `address`, and the offset in that range.
    fn find(&self, address: u64, len: usize) -> Option<(u64, &dyn BusDevice)> {
        let span = u64::try_from(len).ok()?.checked_sub(1)?;
        let last = address.checked_add(span)?;
        let entry = self
            .entries
            .get(self.entries.partition_point(|entry| entry.last < address))?;
        let inside = entry.base <= address && last <= entry.last;
        inside.then(|| (address - entry.base, &*entry.device))
    }

    fn count(&self, address: u64) {
        self.faults.count(match self.kind {
            BusKind::Ports => GuestFault::UnknownPort { port: address },
            BusKind::Mmio => GuestFault::UnknownMmio { address },
        });
    }
}

/// `from` and the offsets after it, for walks over registers byte by byte. Stays at the last one instead of wrapping,
/// where no register ever is.
pub(crate) fn offsets(from: usize) -> impl Iterator<Item = usize> {
    (0..).map(move |step: usize| from.saturating_add(step))
}

#[cfg(test)]
mod tests;
