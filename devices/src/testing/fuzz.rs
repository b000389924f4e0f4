//! Entry points for fuzzing: bytes become what a hostile guest does. They panic when a promise is broken.
//!
//! Separate fuzz targets and this crate's own tests call the same functions, so every seed that was ever found stays
//! a test.

use std::sync::Arc;

use memory::ram::Ram;

use crate::action::Action;
use crate::fault::Faults;
use crate::interrupt::MsiVector;
use crate::pci::PciFunction;
use crate::virtio::balloon::{Balloon, BalloonSpec, F_DEFLATE_ON_OOM, F_MUST_TELL_HOST};
use crate::virtio::common::QueueRegisters;
use crate::virtio::pci::{BAR_BYTES, VirtioPci};
use crate::virtio::queue::{QueueError, VirtQueue};
use crate::virtio::{F_EVENT_IDX, F_VERSION_1, VirtioDevice};

use super::{Descriptor, DriverQueue, FakeDoorbells, FakeVector, anonymous_ram};

mod seeds;

pub use seeds::{Seed, balloon_seeds, register_seeds};

/// Descriptors of a fuzzed queue: few, so that collisions are likely.
const SIZE: u16 = 16;
/// Guest RAM in MiB.
const RAM_MIB: u64 = 8;
/// The queues' places, and where page numbers are put.
const RINGS: [u64; 2] = [0x1000, 0x2000];
const PFNS: u64 = 0x1_0000;
/// What one kick may release at most: every descriptor full of page numbers.
const MAX_RELEASE: u64 = 2 * SIZE as u64 * 256 * 4096;

/// Takes numbers off the front of a byte string; zeros when it is used up.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    fn u32(&mut self) -> u32 {
        u32::from(self.u16()) | u32::from(self.u16()) << 16
    }

    fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Drives a balloon over a small real RAM through its queues: `data` is a list of operations (describe, offer, jump,
/// write page numbers, serve, reset).
///
/// Asserts that no kick does more work than its queues' sizes allow, that a queue that is not broken returns every
/// chain offered, and that `actual` stays between 0 and RAM.
pub fn balloon_pages(data: &[u8]) {
    balloon_pages_in(&empty_ram(), data);
}

/// The same small RAM again and again, because opening one takes long; without what was in it.
fn empty_ram() -> Ram {
    thread_local! {
        static RAM: Ram = anonymous_ram(RAM_MIB);
    }
    let ram = RAM.with(Ram::clone);
    let all: Vec<_> = ram.regions().iter().map(|region| region.guest()).collect();
    assert_eq!(ram.release(&all).discarded, ram.size().bytes());
    ram
}

/// As [`balloon_pages`], over a RAM of the caller's choice of at least 8 MiB.
pub fn balloon_pages_in(ram: &Ram, data: &[u8]) {
    let mut bytes = Bytes(data);
    let faults = Faults::new();
    let spec = BalloonSpec {
        deflate_on_oom: bytes.u8() & 1 != 0,
        ..BalloonSpec::new("fuzz")
    };
    let (handle, mut balloon) = Balloon::new(spec, ram.clone(), Box::new(|_| {})).unwrap();
    let mut drivers = RINGS.map(|base| DriverQueue::new(ram, base, SIZE));
    let mut queues = start(&mut balloon, ram, &drivers, bytes.u8());
    let mut broken = false;
    // A guest may well give away the pages that its rings are in: then all that is left is to survive.
    let mut whole = true;
    while !bytes.is_empty() {
        let operation = bytes.u8();
        let which = usize::from(operation >> 7);
        match operation & 0x7f {
            0..0x20 => {
                let index = bytes.u16() % SIZE;
                let (address, length) = (PFNS + u64::from(bytes.u16()), u32::from(bytes.u16()));
                let (flags, next) = (u16::from(bytes.u8() & 7), bytes.u16());
                drivers[which].describe(
                    index,
                    Descriptor {
                        address,
                        length,
                        flags,
                        next: next % (SIZE + 2),
                    },
                );
            }
            0x20..0x28 => {
                let (address, length) = (bytes.u64(), bytes.u32());
                drivers[which].describe(
                    bytes.u16() % SIZE,
                    Descriptor {
                        address,
                        length,
                        flags: 0,
                        next: 0,
                    },
                );
            }
            0x28..0x40 => {
                let pfns: Vec<u32> = (0..bytes.u8()).map(|_| bytes.u32() % (4 << RAM_MIB)).collect();
                let address = PFNS + u64::from(bytes.u16());
                drivers[which].describe_pfns(bytes.u16() % SIZE, address, &pfns);
            }
            0x40..0x60 => drivers[which].offer(bytes.u16() % (SIZE + 1)),
            0x60..0x64 => drivers[which].set_available(bytes.u16()),
            0x64..0x68 => {
                balloon.config_written(&bytes.u64().to_le_bytes());
                assert!(handle.actual() <= ram.size());
            }
            0x68..0x6c => {
                balloon.reset();
                assert_eq!((handle.actual(), handle.counters().partial), (ram.size(), 0));
                drivers = RINGS.map(|base| DriverQueue::new(ram, base, SIZE));
                queues = start(&mut balloon, ram, &drivers, bytes.u8());
                (broken, whole) = (false, true);
            }
            _ if broken => {}
            _ => {
                let before = handle.counters().discarded;
                let result = serve(&mut balloon, ram, &mut queues, &faults);
                assert!(
                    handle.counters().discarded - before <= MAX_RELEASE,
                    "unbounded release"
                );
                whole &= drivers
                    .iter()
                    .all(|driver| driver.available_index() == driver.available);
                for (driver, queue) in drivers.iter_mut().zip(&queues).filter(|_| whole) {
                    let used = driver.take_used();
                    assert!(
                        used.len() <= usize::from(SIZE),
                        "more chains returned than a queue has"
                    );
                    assert!(
                        used.iter().all(|(_, length)| *length == 0),
                        "the balloon writes into no buffer"
                    );
                    let served = driver.used_index() == driver.available || queue.size() == 0;
                    assert!(result.is_err() || served, "a chain was kept");
                }
                broken = result.is_err();
            }
        }
    }
}

fn start(balloon: &mut Balloon, ram: &Ram, drivers: &[DriverQueue<'_>; 2], choice: u8) -> Vec<VirtQueue> {
    let choices = [F_MUST_TELL_HOST, F_DEFLATE_ON_OOM, F_EVENT_IDX];
    let chosen = (0..).zip(choices).filter(|(bit, _)| choice >> bit & 1 != 0);
    let features = chosen.fold(F_VERSION_1, |features, (_, feature)| features | feature);
    let queue = |(index, driver): (u16, &DriverQueue<'_>)| {
        let enabled = choice >> 6 & 3 != u8::try_from(index).unwrap() + 1;
        let registers = QueueRegisters {
            max_size: 128,
            size: SIZE,
            enabled,
            vector: 0,
            rings: driver.rings(),
        };
        VirtQueue::new(index, &registers, features, ram.memory()).unwrap()
    };
    balloon.activate(features);
    (0..).zip(drivers).map(queue).collect()
}

fn serve(
    balloon: &mut Balloon,
    ram: &Ram,
    queues: &mut [VirtQueue],
    faults: &Faults,
) -> Result<(), QueueError> {
    balloon.process(ram.memory(), queues, faults)?;
    queues
        .iter_mut()
        .try_for_each(|queue| queue.finish(ram.memory()).map(drop))
}

/// Accesses the registers and the configuration space of a balloon behind its PCI transport at random: `data` is a
/// list of reads and writes of any width, with kicks between them. Asserts that the worker survives: after all of it
/// a reset still works.
pub fn virtio_registers(data: &[u8]) {
    let ram = empty_ram();
    let spec = BalloonSpec {
        deflate_on_oom: true,
        ..BalloonSpec::new("fuzz")
    };
    let (_, balloon) = Balloon::new(spec, ram.clone(), Box::new(|_| {})).unwrap();
    let vectors = (0..3)
        .map(|_| Arc::new(FakeVector::default()) as Arc<dyn MsiVector>)
        .collect();
    let doorbells = Arc::new(FakeDoorbells::default());
    let bar = memory::layout::PCI32_WINDOW_START;
    let faults = Arc::new(Faults::new());
    let device = VirtioPci::new(Box::new(balloon), ram, vectors, doorbells.clone(), faults, bar).unwrap();
    let mut bytes = Bytes(data);
    while !bytes.is_empty() {
        let operation = bytes.u8();
        let width = [1, 2, 4, 8][usize::from(operation & 3)];
        let offset = bytes.u16();
        let mut value = bytes.u64().to_le_bytes();
        let room = |size: usize| u16::try_from(size - width).unwrap();
        match operation >> 2 & 7 {
            0..=2 => {
                // Mostly the first bytes of each page, where the registers are.
                let place = if operation & 0x80 == 0 {
                    offset & 0xf03f
                } else {
                    offset
                };
                let offset = place.min(room(usize::try_from(BAR_BYTES).unwrap()));
                assert_eq!(device.bar_write(offset.into(), &value[..width]), Action::None);
            }
            3 => {
                let offset = offset.min(room(usize::try_from(BAR_BYTES).unwrap()));
                device.bar_read(offset.into(), &mut value[..width]);
            }
            4 => {
                let offset = (offset & 0xff).min(room(4096));
                assert_eq!(device.config_write(offset, &value[..width]), Action::None);
            }
            5 => device.config_read(offset.min(room(4096)), &mut value[..width]),
            6 => {
                let _ = doorbells
                    .addresses()
                    .first()
                    .map(|address| doorbells.ring(*address));
            }
            _ => device.reset(),
        }
        if let Some((base, size)) = device.bar() {
            assert!(base.is_multiple_of(size));
        }
    }
    device.reset();
    let mut status = [0xff];
    device.bar_read(0x14, &mut status);
    assert_eq!(status, [0], "the worker did not let go");
    device.shutdown();
    assert!(doorbells.addresses().is_empty());
}

#[cfg(test)]
mod tests;
