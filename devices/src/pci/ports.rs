//! Configuration space by I/O ports: configuration mechanism #1 (PCI Local Bus 3.0, §3.2.2.3.2).
//!
//! Kernels look here before they have read the ACPI tables, and those built without memory-mapped configuration
//! look nowhere else.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::action::Action;
use crate::bus::BusDevice;

use super::Ecam;

/// Port of the address register; the data register follows it.
pub const CONFIG_PORT: u64 = 0xcf8;
/// Ports of both registers.
pub const CONFIG_PORTS: u64 = 8;

/// Address register: accesses to the data register go to configuration space.
const ENABLE: u32 = 1 << 31;
/// Address register: the bits that a guest can set, bus, device, function and register.
const ADDRESS_BITS: u32 = ENABLE | 0x00ff_fffc;
/// Offset of the data register.
const DATA: u64 = 4;

/// The two registers, in front of the same functions as the memory-mapped way.
pub(super) struct ConfigPorts {
    pub(super) ecam: Ecam,
    pub(super) address: AtomicU32,
}

impl ConfigPorts {
    /// Where in ECAM an access of `len` bytes at `offset` of the ports goes.
    fn target(&self, offset: u64, len: usize) -> Option<u64> {
        let address = self.address.load(Ordering::Relaxed);
        let byte = offset.checked_sub(DATA)?;
        let inside = byte + u64::try_from(len).ok()? <= 4;
        // Here the function starts at bit 8, there at bit 12.
        let (function, register) = (u64::from(address & 0x00ff_ff00), u64::from(address & 0xfc));
        (address & ENABLE != 0 && inside).then_some(function << 4 | (register + byte))
    }
}

impl BusDevice for ConfigPorts {
    fn read(&self, offset: u64, data: &mut [u8]) {
        match (offset, self.target(offset, data.len())) {
            (0, _) if data.len() == 4 => {
                data.copy_from_slice(&self.address.load(Ordering::Relaxed).to_le_bytes());
            }
            (_, Some(target)) => self.ecam.read(target, data),
            _ => data.fill(0xff),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        match (offset, data, self.target(offset, data.len())) {
            (0, &[a, b, c, d], _) => {
                self.address
                    .store(u32::from_le_bytes([a, b, c, d]) & ADDRESS_BITS, Ordering::Relaxed);
                Action::None
            }
            (_, _, Some(target)) => self.ecam.write(target, data),
            _ => Action::None,
        }
    }

    fn reset(&self) {
        self.address.store(0, Ordering::Relaxed);
    }
}
