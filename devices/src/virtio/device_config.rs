//! The device configuration as the driver sees it, with its generation.

use std::ops::Range;

use crate::bus::offsets;

/// A snapshot of a device's configuration. The device's worker publishes into it; the driver reads it and writes
/// the bytes that it may.
#[derive(Debug)]
pub(super) struct DeviceConfig {
    bytes: Vec<u8>,
    /// For each byte, whether the driver may write it.
    writable: Vec<bool>,
    generation: u8,
    /// Whether the driver has read anything of this since `generation` last changed.
    observed: bool,
}

impl DeviceConfig {
    pub(super) fn new(bytes: &[u8], writable: &[Range<usize>]) -> DeviceConfig {
        let may = |at| writable.iter().any(|range| range.contains(&at));
        DeviceConfig {
            bytes: bytes.to_vec(),
            writable: (0..bytes.len()).map(may).collect(),
            generation: 0,
            observed: true,
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The generation, as the driver reads it.
    pub(super) fn generation(&mut self) -> u8 {
        self.observed = true;
        self.generation
    }

    /// Reads at `offset`, any width; zero beyond the end.
    pub(super) fn read(&mut self, offset: usize, data: &mut [u8]) {
        self.observed = true;
        for (at, byte) in offsets(offset).zip(data) {
            *byte = self.bytes.get(at).copied().unwrap_or(0);
        }
    }

    /// Writes at `offset` as the driver, any width. Bytes that it may not write stay. Returns whether all were taken.
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) -> bool {
        let mut all = true;
        for (at, new) in offsets(offset).zip(data) {
            match self.bytes.get_mut(at) {
                Some(byte) if self.writable.get(at) == Some(&true) => *byte = *new,
                _ => all = false,
            }
        }
        all
    }

    /// Takes what the device says its configuration is, apart from the driver's bytes. Returns whether it changed.
    pub(super) fn publish(&mut self, config: &[u8]) -> bool {
        self.merge(config, false)
    }

    /// Takes all of what the device says, the driver's bytes included: the driver is gone.
    pub(super) fn replace(&mut self, config: &[u8]) {
        self.merge(config, true);
    }

    /// The driver must be able to tell that what it read may be torn (virtio 1.2, §4.1.4.3.1). Counting every change
    /// could wrap within one of its reads; counting those that follow a read cannot.
    fn merge(&mut self, config: &[u8], drivers_too: bool) -> bool {
        let mut changed = false;
        for ((byte, writable), new) in self.bytes.iter_mut().zip(&self.writable).zip(config) {
            if byte != new && (drivers_too || !writable) {
                *byte = *new;
                changed = true;
            }
        }
        if changed && self.observed {
            self.generation = self.generation.wrapping_add(1);
            self.observed = false;
        }
        changed
    }
}

#[cfg(test)]
mod tests;
