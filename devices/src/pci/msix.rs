//! MSI-X: a function's table of interrupt vectors (PCI Local Bus 3.0, §6.8.2).
//!
//! A masked vector has no route, so its eventfd is off the interrupt controller; what is raised meanwhile is kept
//! in its pending bit and delivered when it is unmasked.

use std::io;
use std::sync::Arc;

use vmm_sys_util::eventfd::EventFd;

use crate::bus::offsets;
use crate::interrupt::{MsiMessage, MsiVector};

/// Capability id of MSI-X.
pub const MSIX_CAPABILITY: u8 = 0x11;
/// Bytes of one table entry.
pub const ENTRY_SIZE: usize = 16;
/// Message control, high byte: MSI-X is on.
pub const CONTROL_ENABLE: u8 = 1 << 7;
/// Message control, high byte: every vector is masked.
pub const CONTROL_MASK_ALL: u8 = 1 << 6;
/// A virtio vector number that stands for none (virtio 1.2, §4.1.5.1.2).
pub const NO_VECTOR: u16 = 0xffff;

/// Vector control: this vector is masked. The state after reset.
const VECTOR_MASKED: u32 = 1;

#[derive(Debug)]
struct Vector {
    line: Arc<dyn MsiVector>,
    /// The table entry as the guest wrote it: address low, address high, data, control.
    entry: [u32; 4],
    pending: bool,
    /// What `line` was last told.
    routed: Option<MsiMessage>,
    /// How often the host refused something.
    failures: u32,
}

impl Vector {
    fn message(&self) -> MsiMessage {
        let [low, high, data, _] = self.entry;
        MsiMessage {
            address: u64::from(high) << 32 | u64::from(low),
            data,
        }
    }

    /// Brings the route in line with the masks, then delivers what waited for it.
    fn update(&mut self, open: bool) {
        let wanted = (open && self.entry[3] & VECTOR_MASKED == 0).then(|| self.message());
        if wanted != self.routed {
            let result = self.line.route(wanted);
            // Refused, the vector stays without interrupts; the next change of its entry tries again.
            self.routed = wanted.filter(|_| result.is_ok());
            self.note("route", result);
        }
        if self.routed.is_some() && std::mem::take(&mut self.pending) {
            self.trigger();
        }
    }

    fn trigger(&mut self) {
        let result = self.line.trigger();
        self.note("raise", result);
    }

    /// Logs a refusal of the host. A guest may cause as many as it likes, so most of them are left out.
    fn note(&mut self, what: &str, result: io::Result<()>) {
        if let Err(error) = result {
            self.failures = self.failures.saturating_add(1);
            if self.failures.is_power_of_two() {
                let (message, times) = (self.message(), self.failures);
                tracing::warn!(times, "cannot {what} MSI-X vector to {message:x?}: {error}");
            }
        }
    }
}

/// The vectors of one function, with the two bits of its message control register.
#[derive(Debug)]
pub struct Msix {
    vectors: Vec<Vector>,
    enabled: bool,
    mask_all: bool,
}

impl Msix {
    /// One vector for each of `lines`, all masked, MSI-X off. More than 2048 lines are not used.
    #[must_use]
    pub fn new(lines: Vec<Arc<dyn MsiVector>>) -> Msix {
        let vector = |line| Vector {
            line,
            entry: [0, 0, 0, VECTOR_MASKED],
            pending: false,
            routed: None,
            failures: 0,
        };
        Msix {
            vectors: lines.into_iter().take(2048).map(vector).collect(),
            enabled: false,
            mask_all: false,
        }
    }

    /// Number of vectors.
    #[must_use]
    pub fn len(&self) -> u16 {
        u16::try_from(self.vectors.len()).unwrap_or(u16::MAX)
    }

    /// Whether there is no vector at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vectors.is_empty()
    }

    /// Whether the guest has switched MSI-X on.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.enabled
    }

    /// Takes the high byte of the message control register.
    pub fn set_control(&mut self, high: u8) {
        let (enabled, mask_all) = (high & CONTROL_ENABLE != 0, high & CONTROL_MASK_ALL != 0);
        if (enabled, mask_all) != (self.enabled, self.mask_all) {
            (self.enabled, self.mask_all) = (enabled, mask_all);
            if !enabled {
                self.vectors.iter_mut().for_each(|vector| vector.pending = false);
            }
            let open = self.open();
            self.vectors.iter_mut().for_each(|vector| vector.update(open));
        }
    }

    /// Raises vector `index`: now, or when it is unmasked. Nothing while MSI-X is off or for a vector that is none.
    pub fn raise(&mut self, index: u16) {
        if let Some(vector) = self.vectors.get_mut(usize::from(index))
            && self.enabled
        {
            match vector.routed {
                Some(_) => vector.trigger(),
                None => vector.pending = true,
            }
        }
    }

    /// What raises vector `index` when another process writes it; `None` while MSI-X is off or for a vector that is none.
    pub fn bell(&mut self, index: u16) -> Option<EventFd> {
        let vector = self
            .vectors
            .get_mut(usize::from(index))
            .filter(|_| self.enabled)?;
        let bell = vector.line.bell();
        bell.inspect_err(|error| tracing::warn!("an interrupt cannot be handed over: {error}"))
            .ok()
    }

    /// Reads the table at `offset`, any width; zero beyond its end.
    pub fn read_table(&self, offset: usize, data: &mut [u8]) {
        for (at, byte) in offsets(offset).zip(data) {
            let word = self
                .vectors
                .get(at / ENTRY_SIZE)
                .map_or(0, |vector| vector.entry[at % ENTRY_SIZE / 4]);
            *byte = word.to_le_bytes()[at % 4];
        }
    }

    /// Writes the table at `offset`, any width; nothing beyond its end.
    pub fn write_table(&mut self, offset: usize, data: &[u8]) {
        let open = self.open();
        let mut bytes = offsets(offset).zip(data).peekable();
        while let Some((at, _)) = bytes.peek() {
            let index = at / ENTRY_SIZE;
            let Some(vector) = self.vectors.get_mut(index) else {
                return;
            };
            // All bytes of one entry first: a route is asked for once, with the whole new entry.
            while let Some((at, byte)) = bytes.next_if(|(at, _)| at / ENTRY_SIZE == index) {
                let word = &mut vector.entry[at % ENTRY_SIZE / 4];
                let mut parts = word.to_le_bytes();
                parts[at % 4] = *byte;
                *word = u32::from_le_bytes(parts);
            }
            vector.entry[3] &= VECTOR_MASKED;
            vector.update(open);
        }
    }

    /// Reads the pending bits at `offset`, any width; zero beyond their end.
    pub fn read_pending(&self, offset: usize, data: &mut [u8]) {
        for (at, byte) in offsets(offset).zip(data) {
            let first = at.saturating_mul(8);
            *byte = (0..8).fold(0, |bits, bit| {
                let pending = self
                    .vectors
                    .get(first.saturating_add(bit))
                    .is_some_and(|vector| vector.pending);
                bits | u8::from(pending) << bit
            });
        }
    }

    /// Back to the state after power-on, all routes removed.
    pub fn reset(&mut self) {
        self.set_control(0);
        for vector in &mut self.vectors {
            vector.entry = [0, 0, 0, VECTOR_MASKED];
            vector.update(false);
        }
    }

    fn open(&self) -> bool {
        self.enabled && !self.mask_all
    }
}

#[cfg(test)]
mod tests;
