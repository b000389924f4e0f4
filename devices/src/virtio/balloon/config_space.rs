//! The device configuration (virtio 1.3, §5.5.4): four numbers of 32 bits.
//!
//! `num_pages` and `actual` are always there. `free_page_hint_cmd_id` belongs to a feature that is not offered, and is
//! there only because `poison_val` comes after it: it reads as 0 and cannot be written.

use std::ops::Range;

use super::F_PAGE_POISON;

const NUM_PAGES: Range<usize> = 0..4;
const ACTUAL: Range<usize> = 4..8;
const POISON_VAL: Range<usize> = 12..16;

/// The configuration as the driver reads it. Numbers of pages are of 4 KiB.
#[derive(Clone, Debug)]
pub(super) struct ConfigSpace {
    bytes: [u8; POISON_VAL.end],
    len: usize,
}

impl ConfigSpace {
    /// All zero, as long as `features` make it.
    pub(super) fn new(features: u64) -> ConfigSpace {
        let poison = features & F_PAGE_POISON != 0;
        ConfigSpace {
            bytes: [0; POISON_VAL.end],
            len: if poison { POISON_VAL.end } else { ACTUAL.end },
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// What the driver may write.
    pub(super) fn writable(&self) -> Vec<Range<usize>> {
        let fields = [ACTUAL, POISON_VAL];
        fields.into_iter().filter(|field| field.end <= self.len).collect()
    }

    pub(super) fn set_num_pages(&mut self, pages: u32) {
        self.bytes[NUM_PAGES].copy_from_slice(&pages.to_le_bytes());
    }

    /// Takes the driver's fields out of `written`.
    pub(super) fn write(&mut self, written: &[u8]) {
        for field in self.writable() {
            if let Some(bytes) = written.get(field.clone()) {
                self.bytes[field].copy_from_slice(bytes);
            }
        }
    }

    /// The driver is gone, and its fields are as new.
    pub(super) fn reset(&mut self) {
        self.bytes[ACTUAL.start..].fill(0);
    }

    pub(super) fn actual(&self) -> u32 {
        self.number(ACTUAL)
    }

    pub(super) fn poison_val(&self) -> u32 {
        self.number(POISON_VAL)
    }

    fn number(&self, field: Range<usize>) -> u32 {
        self.bytes[field]
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u32::from(*byte))
    }
}
