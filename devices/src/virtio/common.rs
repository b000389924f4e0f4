//! The common configuration structure (virtio 1.2, §4.1.4.3): features, status, and the queues' registers.
//!
//! Pure register state. The queues' addresses and sizes are read once, when the driver becomes ready; from then on
//! they cannot change until a reset.

use crate::bus::offsets;
use crate::pci::msix::NO_VECTOR;

use super::status::{self, Step};
use super::{F_EVENT_IDX, F_VERSION_1};

/// Bytes of the structure, up to and with `queue_device`.
pub(super) const COMMON_SIZE: usize = 56;
/// Offset of `config_generation`, which the transport fills in.
pub(super) const GENERATION: usize = 0x15;

const DEVICE_FEATURE_SELECT: usize = 0x00;
const DEVICE_FEATURE: usize = 0x04;
const DRIVER_FEATURE_SELECT: usize = 0x08;
const DRIVER_FEATURE: usize = 0x0c;
const CONFIG_VECTOR: usize = 0x10;
const NUM_QUEUES: usize = 0x12;
const STATUS: usize = 0x14;
const QUEUE_SELECT: usize = 0x16;
const QUEUE_SIZE: usize = 0x18;
const QUEUE_VECTOR: usize = 0x1a;
const QUEUE_ENABLE: usize = 0x1c;
const QUEUE_NOTIFY_OFF: usize = 0x1e;
const QUEUE_DESC: usize = 0x20;
const QUEUE_DRIVER: usize = 0x28;
const QUEUE_DEVICE: usize = 0x30;

/// One queue's registers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QueueRegisters {
    pub(crate) max_size: u16,
    pub(crate) size: u16,
    pub(crate) enabled: bool,
    pub(crate) vector: u16,
    /// Guest addresses of descriptor table, available ring, used ring.
    pub(crate) rings: [u64; 3],
}

impl QueueRegisters {
    fn new(max_size: u16) -> QueueRegisters {
        QueueRegisters {
            max_size,
            size: max_size,
            enabled: false,
            vector: NO_VECTOR,
            rings: [0; 3],
        }
    }
}

/// What a write asks of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    /// The driver became ready: hand the queues over.
    Start,
    /// The driver wrote status 0 and waits until it reads 0.
    Reset,
    /// The write was refused: no such register, a wrong width, or not now.
    Refused,
    /// The status cannot follow the current one.
    BadStatus,
    /// The features cannot be accepted.
    BadFeatures,
}

/// The registers.
#[derive(Debug)]
pub(super) struct Common {
    offered: u64,
    accepted: u64,
    device_select: u32,
    driver_select: u32,
    status: u8,
    /// The driver asked for a reset that has not happened yet: the status still reads as before.
    resetting: bool,
    config_vector: u16,
    queue_select: u16,
    queues: Vec<QueueRegisters>,
    /// Size of the MSI-X table.
    vectors: u16,
}

impl Common {
    pub(super) fn new(device_features: u64, queue_sizes: &[u16], vectors: u16) -> Common {
        Common {
            offered: device_features | F_VERSION_1 | F_EVENT_IDX,
            accepted: 0,
            device_select: 0,
            driver_select: 0,
            status: 0,
            resetting: false,
            config_vector: NO_VECTOR,
            queue_select: 0,
            queues: queue_sizes
                .iter()
                .map(|size| QueueRegisters::new(*size))
                .collect(),
            vectors,
        }
    }

    pub(super) fn queues(&self) -> &[QueueRegisters] {
        &self.queues
    }

    /// The features accepted so far; final once the driver is ready.
    pub(super) fn features(&self) -> u64 {
        self.accepted
    }

    pub(super) fn status(&self) -> u8 {
        self.status
    }

    pub(super) fn driver_ok(&self) -> bool {
        self.status & status::DRIVER_OK != 0
    }

    pub(super) fn resetting(&self) -> bool {
        self.resetting
    }

    /// The driver may write device configuration: it has introduced itself.
    pub(super) fn driver_known(&self) -> bool {
        self.status & status::DRIVER != 0 && !self.resetting
    }

    pub(super) fn config_vector(&self) -> u16 {
        self.config_vector
    }

    pub(super) fn queue_vector(&self, queue: u16) -> u16 {
        self.queues
            .get(usize::from(queue))
            .map_or(NO_VECTOR, |queue| queue.vector)
    }

    /// The device cannot go on. Returns whether the driver has to be told.
    pub(super) fn set_needs_reset(&mut self) -> bool {
        let news = self.driver_ok() && self.status & status::NEEDS_RESET == 0;
        if self.status != 0 {
            self.status |= status::NEEDS_RESET;
        }
        news
    }

    /// Starts a reset from the device's side, as if the driver had written status 0.
    pub(super) fn begin_reset(&mut self) {
        self.resetting = true;
    }

    /// The reset is done: everything as after power-on, and the status reads 0.
    pub(super) fn finish_reset(&mut self) {
        let sizes: Vec<u16> = self.queues.iter().map(|queue| queue.max_size).collect();
        *self = Common::new(self.offered, &sizes, self.vectors);
    }

    /// Reads at `offset`, any width; zero beyond the end. Reading changes nothing.
    pub(super) fn read(&self, offset: usize, generation: u8, data: &mut [u8]) {
        let image = self.image(generation);
        for (at, byte) in offsets(offset).zip(data) {
            *byte = image.get(at).copied().unwrap_or(0);
        }
    }

    /// The whole structure as bytes.
    fn image(&self, generation: u8) -> [u8; COMMON_SIZE] {
        let mut image = [0; COMMON_SIZE];
        let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
        put(DEVICE_FEATURE_SELECT, &self.device_select.to_le_bytes());
        put(
            DEVICE_FEATURE,
            &half(self.offered, self.device_select).to_le_bytes(),
        );
        put(DRIVER_FEATURE_SELECT, &self.driver_select.to_le_bytes());
        put(
            DRIVER_FEATURE,
            &half(self.accepted, self.driver_select).to_le_bytes(),
        );
        put(CONFIG_VECTOR, &self.config_vector.to_le_bytes());
        put(
            NUM_QUEUES,
            &u16::try_from(self.queues.len()).unwrap_or(u16::MAX).to_le_bytes(),
        );
        put(STATUS, &[self.status]);
        put(GENERATION, &[generation]);
        put(QUEUE_SELECT, &self.queue_select.to_le_bytes());
        // A queue that is not there reads as all zero: size 0 says so.
        if let Some(queue) = self.queues.get(usize::from(self.queue_select)) {
            put(QUEUE_SIZE, &queue.size.to_le_bytes());
            put(QUEUE_VECTOR, &queue.vector.to_le_bytes());
            put(QUEUE_ENABLE, &u16::from(queue.enabled).to_le_bytes());
            put(QUEUE_NOTIFY_OFF, &self.queue_select.to_le_bytes());
            put(QUEUE_DESC, &queue.rings[0].to_le_bytes());
            put(QUEUE_DRIVER, &queue.rings[1].to_le_bytes());
            put(QUEUE_DEVICE, &queue.rings[2].to_le_bytes());
        }
        image
    }

    /// Writes at `offset`. Only whole registers can be written, 64-bit ones also by halves (§4.1.3.1).
    pub(super) fn write(&mut self, offset: usize, data: &[u8]) -> Effect {
        if self.resetting {
            return Effect::Refused;
        }
        match (offset, data) {
            (STATUS, [value]) => self.write_status(*value),
            (CONFIG_VECTOR, &[a, b]) => {
                self.config_vector = self.vector(u16::from_le_bytes([a, b]));
                Effect::None
            }
            (QUEUE_SELECT, &[a, b]) => {
                self.queue_select = u16::from_le_bytes([a, b]);
                Effect::None
            }
            (QUEUE_VECTOR, &[a, b]) => self.write_queue_vector(u16::from_le_bytes([a, b])),
            (QUEUE_SIZE | QUEUE_ENABLE, &[a, b]) => self.write_queue(offset, u16::from_le_bytes([a, b])),
            (_, &[a, b, c, d]) => self.write_u32(offset, u32::from_le_bytes([a, b, c, d])),
            (QUEUE_DESC | QUEUE_DRIVER | QUEUE_DEVICE, &[a, b, c, d, e, f, g, h]) => {
                // Both halves are taken or neither: what refuses one refuses the other.
                self.write_ring(offset, u32::from_le_bytes([a, b, c, d]));
                self.write_ring(offset + 4, u32::from_le_bytes([e, f, g, h]))
            }
            _ => Effect::Refused,
        }
    }

    fn write_u32(&mut self, offset: usize, value: u32) -> Effect {
        match offset {
            DEVICE_FEATURE_SELECT => self.device_select = value,
            DRIVER_FEATURE_SELECT => self.driver_select = value,
            DRIVER_FEATURE => return self.write_features(value),
            QUEUE_DESC..COMMON_SIZE => return self.write_ring(offset, value),
            _ => return Effect::Refused,
        }
        Effect::None
    }

    fn write_features(&mut self, value: u32) -> Effect {
        let shift = match self.driver_select {
            0 => 0,
            1 => 32,
            // Bits that no device has offered yet: a driver may write zeros there.
            _ => return if value == 0 { Effect::None } else { Effect::Refused },
        };
        if self.status & status::FEATURES_OK != 0 {
            return Effect::Refused;
        }
        self.accepted = self.accepted & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
        Effect::None
    }

    fn write_status(&mut self, value: u8) -> Effect {
        if value == 0 {
            return self.write_reset();
        }
        match status::step(self.status, value) {
            None => return Effect::BadStatus,
            // Without VERSION_1, or with bits never offered, FEATURES_OK does not stay set: the driver reads it back.
            Some(Step::CheckFeatures)
                if self.accepted & !self.offered != 0 || self.accepted & F_VERSION_1 == 0 =>
            {
                return Effect::BadFeatures;
            }
            Some(Step::Start) => {
                self.status |= value & !status::NEEDS_RESET;
                return Effect::Start;
            }
            Some(Step::Set | Step::CheckFeatures) => self.status |= value & !status::NEEDS_RESET,
        }
        Effect::None
    }

    fn write_reset(&mut self) -> Effect {
        if self.status == 0 {
            // Nothing to wait for: no driver, so no rings. The driver reads 0 at once.
            self.finish_reset();
            return Effect::None;
        }
        self.resetting = true;
        Effect::Reset
    }

    fn write_queue_vector(&mut self, value: u16) -> Effect {
        let vector = self.vector(value);
        let Some(queue) = self.queues.get_mut(usize::from(self.queue_select)) else {
            return Effect::Refused;
        };
        queue.vector = vector;
        Effect::None
    }

    /// What a driver reads back after asking for vector `value`: none if there is no such vector.
    fn vector(&self, value: u16) -> u16 {
        if value < self.vectors { value } else { NO_VECTOR }
    }

    /// The selected queue, while it may still be changed.
    fn open_queue(&mut self) -> Option<&mut QueueRegisters> {
        let closed = self.driver_ok() || self.status & (status::NEEDS_RESET | status::FAILED) != 0;
        let queue = self.queues.get_mut(usize::from(self.queue_select))?;
        (!closed && !queue.enabled).then_some(queue)
    }

    fn write_queue(&mut self, offset: usize, value: u16) -> Effect {
        let Some(queue) = self.open_queue() else {
            return Effect::Refused;
        };
        match (offset, value) {
            (QUEUE_ENABLE, 1) => queue.enabled = true,
            (QUEUE_SIZE, size) if size.is_power_of_two() && size <= queue.max_size => queue.size = size,
            _ => return Effect::Refused,
        }
        Effect::None
    }

    /// Writes one half of one of the three ring addresses.
    fn write_ring(&mut self, offset: usize, value: u32) -> Effect {
        let place = offset.wrapping_sub(QUEUE_DESC);
        let Some(queue) = self.open_queue().filter(|_| place.is_multiple_of(4)) else {
            return Effect::Refused;
        };
        let Some(ring) = queue.rings.get_mut(place / 8) else {
            return Effect::Refused;
        };
        let shift = if place.is_multiple_of(8) { 0 } else { 32 };
        *ring = *ring & !(u64::from(u32::MAX) << shift) | u64::from(value) << shift;
        Effect::None
    }
}

/// The 32 feature bits that `select` shows; beyond the 64 defined, none.
fn half(features: u64, select: u32) -> u32 {
    let [a, b, c, d, e, f, g, h] = features.to_le_bytes();
    match select {
        0 => u32::from_le_bytes([a, b, c, d]),
        1 => u32::from_le_bytes([e, f, g, h]),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
