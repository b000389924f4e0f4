//! Hands out what devices must not share: PCI slots, windows of guest addresses, interrupt numbers.

use std::io;
use std::sync::Arc;

use devices::interrupt::MsiVector;
use memory::layout;

use crate::kvm::irq::Routes;

/// Address space for the base address register of one device: room for every structure of virtio-pci.
const BAR_STRIDE: u64 = 64 << 10;

/// The next free one of everything.
#[derive(Debug)]
pub struct Platform {
    next_slot: u8,
    next_gsi: u32,
}

/// A place for one PCI device.
#[derive(Debug)]
pub struct Place {
    /// Device number on bus 0.
    pub slot: u8,
    /// Guest address of its memory BAR.
    pub bar: u64,
    /// Its interrupt vectors.
    pub vectors: Vec<Arc<dyn MsiVector>>,
}

impl Default for Platform {
    fn default() -> Platform {
        // Slot 0 is the host bridge.
        Platform {
            next_slot: 1,
            next_gsi: layout::FIRST_MSI_GSI,
        }
    }
}

impl Platform {
    /// A place with `vectors` interrupt vectors.
    pub fn place(&mut self, vectors: usize, routes: &Arc<Routes>) -> io::Result<Place> {
        let slot = self.next_slot;
        if slot > 31 {
            return Err(io::Error::other("all 31 slots of the PCI bus are taken"));
        }
        self.next_slot += 1;
        let mut taken = Vec::with_capacity(vectors);
        for _ in 0..vectors {
            taken.push(routes.vector(self.next_gsi)?);
            self.next_gsi += 1;
        }
        let bar = layout::PCI32_WINDOW_START + u64::from(slot) * BAR_STRIDE;
        Ok(Place {
            slot,
            bar,
            vectors: taken,
        })
    }
}
