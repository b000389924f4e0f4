//! The 256 bytes of a PCI function's configuration space (PCI Local Bus 3.0, §6).

use crate::bus::offsets;

/// Bytes of conventional configuration space.
pub const CONFIG_SIZE: usize = 256;

/// Offset of the vendor id.
pub const VENDOR_ID: usize = 0x00;
/// Offset of the command register.
pub const COMMAND: usize = 0x04;
/// Offset of the status register.
pub const STATUS: usize = 0x06;
/// Offset of BAR 0.
pub const BAR0: usize = 0x10;
/// Offset of the pointer to the first capability.
pub const CAPABILITIES: usize = 0x34;

/// Command: the function answers in its memory BARs.
pub const COMMAND_MEMORY: u8 = 1 << 1;
/// Command: the function may write to memory.
const COMMAND_BUS_MASTER: u8 = 1 << 2;
/// Command, high byte: the function may not raise INTx.
const COMMAND_INTX_DISABLE: u8 = 1 << 2;
/// Status: there is a list of capabilities.
const STATUS_CAPABILITIES: u8 = 1 << 4;
/// Where the first capability is put: behind the header.
const FIRST_CAPABILITY: usize = 0x40;

/// What a function is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class, subclass and programming interface, as in `0x06_00_00`.
    pub class: u32,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
}

/// Configuration space: bytes, and which of their bits a guest may change.
///
/// The interrupt pin is 0: functions here have MSI-X and nothing else.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: [u8; CONFIG_SIZE],
    /// A one for every bit that a guest's write changes.
    writable: [u8; CONFIG_SIZE],
    /// Where the next capability goes, and the byte that will point to it.
    next: usize,
    link: usize,
}

impl ConfigSpace {
    /// A type 0 header without BARs and capabilities, memory decoding off.
    #[must_use]
    pub fn new(identity: Identity) -> ConfigSpace {
        let mut space = ConfigSpace {
            bytes: [0; CONFIG_SIZE],
            writable: [0; CONFIG_SIZE],
            next: FIRST_CAPABILITY,
            link: CAPABILITIES,
        };
        let [class_low, class_mid, class_high, _] = identity.class.to_le_bytes();
        space.put(VENDOR_ID, &identity.vendor.to_le_bytes());
        space.put(0x02, &identity.device.to_le_bytes());
        space.put(0x08, &[identity.revision, class_low, class_mid, class_high]);
        space.put(0x2c, &identity.subsystem_vendor.to_le_bytes());
        space.put(0x2e, &identity.subsystem.to_le_bytes());
        space.writable[COMMAND] = COMMAND_MEMORY | COMMAND_BUS_MASTER;
        space.writable[COMMAND + 1] = COMMAND_INTX_DISABLE;
        // Cache line size and interrupt line: scratch bytes for the guest's software.
        space.writable[0x0c] = 0xff;
        space.writable[0x3c] = 0xff;
        space
    }

    /// Makes BAR 0 a 32-bit, non-prefetchable memory BAR of `size` bytes (a power of two, at least 16) at `address`.
    ///
    /// Sizing needs nothing more: a guest that writes all ones reads back the size's mask.
    pub fn set_bar0(&mut self, address: u32, size: u32) {
        debug_assert!(size.is_power_of_two() && size >= 16);
        let mask = !(size - 1);
        self.put(BAR0, &(address & mask).to_le_bytes());
        self.writable[BAR0..BAR0 + 4].copy_from_slice(&mask.to_le_bytes());
    }

    /// The address in BAR 0, whether decoded or not.
    #[must_use]
    pub fn bar0(&self) -> u32 {
        self.get_u32(BAR0) & !0xf
    }

    /// Whether the guest has switched memory decoding on.
    #[must_use]
    pub fn memory_enabled(&self) -> bool {
        self.bytes[COMMAND] & COMMAND_MEMORY != 0
    }

    /// Whether the guest lets the device read and write its memory and send messages.
    #[must_use]
    pub fn bus_master(&self) -> bool {
        self.bytes[COMMAND] & COMMAND_BUS_MASTER != 0
    }

    /// Appends a capability of kind `id` to the list: `body` follows the two bytes of its header, and `writable`,
    /// as long as `body` or shorter, says which bits a guest may change. Returns its offset.
    ///
    /// # Panics
    /// When the 256 bytes do not suffice: which capabilities there are is fixed when the program is written.
    pub fn add_capability(&mut self, id: u8, body: &[u8], writable: &[u8]) -> usize {
        let at = self.next;
        let end = at + 2 + body.len();
        assert!(
            end <= CONFIG_SIZE && writable.len() <= body.len(),
            "capability {id:#x} does not fit"
        );
        self.put(at, &[id, 0]);
        self.put(at + 2, body);
        self.writable[at + 2..at + 2 + writable.len()].copy_from_slice(writable);
        self.bytes[self.link] = u8::try_from(at).unwrap_or(0);
        self.bytes[STATUS] |= STATUS_CAPABILITIES;
        self.link = at + 1;
        self.next = end.next_multiple_of(4);
        at
    }

    /// Sets `bytes` at `offset`, as the device: whatever the guest may write.
    pub fn put(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(place) = self
            .bytes
            .get_mut(offset..)
            .and_then(|rest| rest.get_mut(..bytes.len()))
        {
            place.copy_from_slice(bytes);
        }
    }

    /// Four bytes at `offset`; zero beyond the end.
    #[must_use]
    pub fn get_u32(&self, offset: usize) -> u32 {
        let mut bytes = [0; 4];
        self.read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    /// Reads at `offset`, any width; all ones beyond the end.
    pub fn read(&self, offset: usize, data: &mut [u8]) {
        for (at, byte) in offsets(offset).zip(data) {
            *byte = self.bytes.get(at).copied().unwrap_or(0xff);
        }
    }

    /// Writes at `offset` as the guest, any width: changes the writable bits and no other.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        for (at, new) in offsets(offset).zip(data) {
            if let (Some(byte), Some(mask)) = (self.bytes.get_mut(at), self.writable.get(at)) {
                *byte = *byte & !mask | new & mask;
            }
        }
    }
}

#[cfg(test)]
mod tests;
