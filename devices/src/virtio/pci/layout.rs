//! Where a virtio device's structures lie in its BAR, and the PCI capabilities that say so (virtio 1.2, §4.1.4).

use crate::pci::config::{ConfigSpace, Identity};
use crate::pci::msix::MSIX_CAPABILITY;

use super::super::Description;
use super::super::common::COMMON_SIZE;

/// Size of the BAR: a page for each structure, rounded up to a power of two.
pub(in crate::virtio) const BAR_SIZE: u32 = 0x8000;
/// Each structure has a page of its own.
const PAGE: u32 = 0x1000;
/// Start of the notification structure, from the start of the BAR.
pub(in crate::virtio) const NOTIFY: u32 = 3 * PAGE;
/// Bytes from one queue's notification register to the next.
pub(in crate::virtio) const NOTIFY_STEP: u32 = 4;
/// More queues would not fit into the notification page.
pub(in crate::virtio) const MAX_QUEUES: usize = 1024;
/// More vectors would not fit into the MSI-X table's page.
pub(in crate::virtio) const MAX_VECTORS: usize = 256;

/// PCI capability id: vendor-specific, which all of virtio's are.
const VENDOR_CAPABILITY: u8 = 0x09;
/// Vendor id of virtio devices; also their subsystem's vendor.
const VENDOR: u16 = 0x1af4;
/// Device ids are this plus the virtio device number.
const DEVICE_BASE: u16 = 0x1040;

/// `cfg_type` of the structures.
const COMMON_CFG: u8 = 1;
const NOTIFY_CFG: u8 = 2;
const ISR_CFG: u8 = 3;
const DEVICE_CFG: u8 = 4;
const PCI_CFG: u8 = 5;

/// The structures of the BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::virtio) enum Structure {
    Common,
    Isr,
    Device,
    Notify,
    MsixTable,
    MsixPending,
}

/// In the order of their pages.
const STRUCTURES: [Structure; 6] = [
    Structure::Common,
    Structure::Isr,
    Structure::Device,
    Structure::Notify,
    Structure::MsixTable,
    Structure::MsixPending,
];

/// The structure that holds all `len` bytes at `offset` of the BAR, and the offset in it.
pub(in crate::virtio) fn locate(offset: u64, len: usize) -> Option<(Structure, usize)> {
    let page = usize::try_from(offset / u64::from(PAGE)).ok()?;
    let inside = usize::try_from(offset % u64::from(PAGE)).ok()?;
    let structure = *STRUCTURES.get(page)?;
    (inside + len <= usize::try_from(PAGE).ok()?).then_some((structure, inside))
}

/// Configuration space of a virtio device, and where in it the two capabilities lie that do something.
#[derive(Clone, Debug)]
pub(in crate::virtio) struct Layout {
    pub(in crate::virtio) config: ConfigSpace,
    /// Offset of the MSI-X capability.
    pub(in crate::virtio) msix: usize,
    /// Offset of the configuration access capability.
    pub(in crate::virtio) window: usize,
}

/// Offsets in the configuration access capability (virtio 1.2, §4.1.4.9).
pub(in crate::virtio) const WINDOW_BAR: usize = 4;
pub(in crate::virtio) const WINDOW_OFFSET: usize = 8;
pub(in crate::virtio) const WINDOW_LENGTH: usize = 12;
pub(in crate::virtio) const WINDOW_DATA: usize = 16;
/// Offset of the message control register's high byte in the MSI-X capability.
pub(in crate::virtio) const MSIX_CONTROL_HIGH: usize = 3;

impl Layout {
    /// The layout of `device` with its BAR at `bar_address`, `config_len` bytes of device configuration and
    /// `vectors` (at least one) MSI-X vectors.
    pub(in crate::virtio) fn new(
        device: &Description,
        bar_address: u32,
        config_len: u32,
        vectors: u16,
    ) -> Layout {
        let mut config = ConfigSpace::new(Identity {
            vendor: VENDOR,
            device: DEVICE_BASE + u16::from(device.device_type),
            // 1 or higher: no legacy driver may take it for its own (§4.1.2.1).
            revision: 1,
            class: device.class,
            subsystem_vendor: VENDOR,
            subsystem: DEVICE_BASE + u16::from(device.device_type),
        });
        config.set_bar0(bar_address, BAR_SIZE);
        let queues = u32::try_from(device.queue_sizes.len()).unwrap_or(0);
        let common = u32::try_from(COMMON_SIZE).unwrap_or(PAGE);
        let mut add = |kind, offset, length, extra: &[u8], writable: &[u8]| {
            config.add_capability(VENDOR_CAPABILITY, &body(kind, offset, length, extra), writable)
        };
        add(COMMON_CFG, start(Structure::Common), common, &[], &[]);
        add(ISR_CFG, start(Structure::Isr), 1, &[], &[]);
        if config_len > 0 {
            add(DEVICE_CFG, start(Structure::Device), config_len, &[], &[]);
        }
        add(
            NOTIFY_CFG,
            start(Structure::Notify),
            queues * NOTIFY_STEP,
            &NOTIFY_STEP.to_le_bytes(),
            &[],
        );
        // The driver chooses BAR, offset and length of its window, and reads and writes the data.
        let mut writable = [0; 18];
        writable[WINDOW_BAR - 2] = 0xff;
        writable[WINDOW_OFFSET - 2..].fill(0xff);
        let window = add(PCI_CFG, 0, 0, &[0; 4], &writable);
        let table_size = vectors.saturating_sub(1).to_le_bytes();
        let table = start(Structure::MsixTable).to_le_bytes();
        let pending = start(Structure::MsixPending).to_le_bytes();
        let msix = [&table_size[..], &table, &pending].concat();
        let msix = config.add_capability(MSIX_CAPABILITY, &msix, &[0, 0xc0]);
        Layout { config, msix, window }
    }
}

/// Offset of a structure in the BAR.
fn start(structure: Structure) -> u32 {
    let page = STRUCTURES.iter().position(|known| *known == structure);
    page.and_then(|page| u32::try_from(page).ok())
        .map_or(0, |page| page * PAGE)
}

/// `struct virtio_pci_cap` without its first two bytes, for BAR 0.
fn body(kind: u8, offset: u32, length: u32, extra: &[u8]) -> Vec<u8> {
    let len = u8::try_from(16 + extra.len()).unwrap_or(u8::MAX);
    let head = [len, kind, 0, 0, 0, 0];
    [&head[..], &offset.to_le_bytes(), &length.to_le_bytes(), extra].concat()
}

#[cfg(test)]
mod tests;
