//! Entry points for fuzzing: bytes become what a hostile guest does. They panic when a promise is broken.
//!
//! Separate fuzz targets and this crate's own tests call the same functions, so every seed that was ever found stays
//! a test.

use std::sync::Arc;

use memory::ram::Ram;
use memory::size::ByteSize;
use vm_memory::{Bytes as _, GuestAddress};

use crate::action::Action;
use crate::fault::Faults;
use crate::interrupt::MsiVector;
use crate::pci::PciFunction;
use crate::virtio::balloon::{
    Balloon, BalloonSpec, F_DEFLATE_ON_OOM, F_MUST_TELL_HOST, F_PAGE_POISON, F_PAGE_REPORTING, F_STATS_VQ,
    Reporting,
};
use crate::virtio::common::QueueRegisters;
use crate::virtio::pci::{BAR_BYTES, VirtioPci};
use crate::virtio::queue::{QueueError, VirtQueue};
use crate::virtio::{F_EVENT_IDX, F_VERSION_1, VirtioDevice};

use super::{Descriptor, DriverQueue, FakeDoorbells, FakeVector, anonymous_ram};

mod daemon;
mod queues;
mod seeds;

pub use daemon::{daemon_answers, daemon_seeds};
pub use queues::device_queues;
pub use seeds::{Seed, balloon_seeds, queue_seeds, register_seeds};

/// Descriptors of a fuzzed queue: few, so that collisions are likely.
const SIZE: u16 = 16;
/// Guest RAM in MiB.
const RAM_MIB: u64 = 8;
/// Page numbers that are used: twice as many as there are pages.
const PAGES: u32 = 2 * 256 * 8;
/// The queues' places, and where page numbers are put.
const RINGS: [u64; 4] = [0x1000, 0x2000, 0x3000, 0x4000];
const PFNS: u64 = 0x1_0000;
/// Features that a driver may choose, by bits of one byte.
const CHOICES: [u64; 6] = [
    F_MUST_TELL_HOST,
    F_DEFLATE_ON_OOM,
    F_EVENT_IDX,
    F_STATS_VQ,
    F_PAGE_POISON,
    F_PAGE_REPORTING,
];
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
/// write page numbers, write configuration, ask for statistics, set the target, serve, reset).
///
/// Asserts that no kick does more work than its queues' sizes allow, that a queue that is not broken returns every
/// chain offered, but for one buffer of statistics, and that `actual` stays between 0 and RAM.
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
    let spec = spec(bytes.u8());
    let (handle, mut balloon) = Balloon::new(spec, ram.clone(), Box::new(|_| {})).unwrap();
    let mut drivers = RINGS.map(|base| DriverQueue::new(ram, base, SIZE));
    let (mut features, mut queues) = start(&mut balloon, ram, &drivers, bytes.u8());
    let mut broken = false;
    // A guest may well give away the pages that its rings are in: then all that is left is to survive.
    let mut whole = true;
    // Operations name one queue of a pair.
    let mut pair = 0;
    while !bytes.is_empty() {
        let operation = bytes.u8();
        let which = 2 * pair + usize::from(operation >> 7);
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
                let flags = u16::from(operation & 2);
                drivers[which].describe(
                    bytes.u16() % SIZE,
                    Descriptor {
                        address,
                        length,
                        flags,
                        next: 0,
                    },
                );
            }
            0x28..0x40 => {
                let pfns: Vec<u32> = (0..bytes.u8()).map(|_| bytes.u32() % PAGES).collect();
                let address = PFNS + u64::from(bytes.u16());
                drivers[which].describe_pfns(bytes.u16() % SIZE, address, &pfns);
            }
            0x40..0x60 => drivers[which].offer(bytes.u16() % (SIZE + 1)),
            0x60..0x64 => drivers[which].set_available(bytes.u16()),
            0x64..0x68 => {
                let config = [bytes.u64(), bytes.u64()].map(u64::to_le_bytes);
                balloon.config_written(&config.concat());
                assert!(handle.actual() <= ram.size());
            }
            0x68..0x6c => {
                balloon.reset();
                assert_eq!((handle.actual(), handle.counters().partial), (ram.size(), 0));
                drivers = RINGS.map(|base| DriverQueue::new(ram, base, SIZE));
                (features, queues) = start(&mut balloon, ram, &drivers, bytes.u8());
                (broken, whole) = (false, true);
            }
            0x6c..0x6e => pair = usize::from(operation & 1),
            0x6e => {
                handle.request_stats();
                balloon.handle_event();
            }
            0x6f => {
                // Zero is refused.
                let _ = handle.set_target(ByteSize::from_bytes(u64::from(bytes.u16()) << 12));
                balloon.handle_event();
            }
            _ if broken => {}
            _ => {
                let before = handle.counters();
                let result = serve(&mut balloon, ram, &mut queues, &faults);
                let after = handle.report().counters;
                assert!(
                    after.discarded - before.discarded <= MAX_RELEASE,
                    "unbounded release"
                );
                assert!(
                    after.reported - before.reported <= ram.size().bytes(),
                    "reported twice"
                );
                let stats = handle.stats();
                assert!(
                    stats.is_none_or(|stats| stats.unknown().len() <= 16),
                    "unbounded statistics"
                );
                whole &= drivers
                    .iter()
                    .all(|driver| driver.available_index() == driver.available);
                for queue in queues.iter().filter(|_| whole) {
                    let role = roles(features)[usize::from(queue.index())];
                    let driver = &mut drivers[role];
                    let used = driver.take_used();
                    // A driver that fills the ring although the device keeps a buffer of it has that one besides.
                    let kept_before = usize::from(role == STATS);
                    assert!(
                        used.len() <= usize::from(SIZE) + kept_before,
                        "more chains returned than a queue has"
                    );
                    assert!(
                        used.iter().all(|(_, length)| *length == 0),
                        "the balloon writes into no buffer"
                    );
                    let kept = driver.available.wrapping_sub(driver.used_index());
                    let served = kept <= u16::from(role == STATS) || queue.size() == 0;
                    assert!(result.is_err() || served, "a chain was kept");
                }
                broken = result.is_err();
            }
        }
    }
}

/// A balloon as some byte wants it.
fn spec(choice: u8) -> BalloonSpec {
    let chosen = |bit: u8| choice >> bit & 1 != 0;
    BalloonSpec {
        deflate_on_oom: chosen(0),
        page_poison: !chosen(1),
        reporting: if chosen(2) {
            Reporting::Off("fuzz".into())
        } else {
            Reporting::On
        },
        deflate_on_distress: chosen(3),
        ..BalloonSpec::new("fuzz")
    }
}

/// Place of the statistics queue among the drivers' queues: inflate, deflate, statistics, reporting.
const STATS: usize = 2;

/// Which of the drivers' queues is at which index.
fn roles(features: u64) -> Vec<usize> {
    let needs = [0, 0, F_STATS_VQ, F_PAGE_REPORTING];
    (0..needs.len())
        .filter(|role| features & needs[*role] == needs[*role])
        .collect()
}

/// A driver comes, with the features that a byte chooses of those offered. Its highest bits leave a queue disabled.
fn start(
    balloon: &mut Balloon,
    ram: &Ram,
    drivers: &[DriverQueue<'_>; 4],
    choice: u8,
) -> (u64, Vec<VirtQueue>) {
    let offered = balloon.description().features | F_EVENT_IDX | F_MUST_TELL_HOST;
    let chosen = (0..).zip(CHOICES).filter(|(bit, _)| choice >> bit & 1 != 0);
    let features = chosen.fold(F_VERSION_1, |features, (_, feature)| features | feature & offered);
    let queue = |(index, role): (u16, usize)| {
        let enabled = choice >> 6 & 3 != u8::try_from(index).unwrap() + 1;
        let registers = QueueRegisters {
            max_size: 128,
            size: SIZE,
            enabled,
            vector: 0,
            rings: drivers[role].rings(),
        };
        VirtQueue::new(index, &registers, features, ram.memory()).unwrap()
    };
    balloon.activate(features);
    (features, (0..).zip(roles(features)).map(queue).collect())
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

/// Accesses the registers and the configuration space of a balloon behind its PCI transport at random, while its worker
/// serves what kicks tell it: `data` is a list of reads and writes of any width, of writes into the rings, of kicks and
/// machine resets. Asserts that the worker survives: after all of it a reset still works.
pub fn virtio_registers(data: &[u8]) {
    let ram = empty_ram();
    let (handle, balloon) = Balloon::new(spec(1), ram.clone(), Box::new(|_| {})).unwrap();
    let vectors = (0..3)
        .map(|_| Arc::new(FakeVector::default()) as Arc<dyn MsiVector>)
        .collect();
    let doorbells = Arc::new(FakeDoorbells::default());
    let bar = memory::layout::PCI32_WINDOW_START;
    let faults = Arc::new(Faults::new());
    let device = VirtioPci::new(
        Box::new(balloon),
        ram.clone(),
        vectors,
        doorbells.clone(),
        faults,
        bar,
    );
    let device = device.unwrap();
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
                let bells = doorbells.addresses();
                let bell = bells.get(usize::from(offset) % bells.len().max(1));
                let _ = bell.map(|address| doorbells.ring(*address));
            }
            _ if operation & 0x80 == 0 => {
                // The rings, where the seeds put them, and what they lead to.
                let at = GuestAddress(RINGS[0] + u64::from(offset));
                ram.memory().write_slice(&value[..width], at).unwrap();
            }
            _ => device.reset(),
        }
        if let Some((base, size)) = device.bar() {
            assert!(base.is_multiple_of(size));
        }
        assert!(handle.actual() <= ram.size());
    }
    device.reset();
    let mut status = [0xff];
    device.bar_read(0x14, &mut status);
    assert_eq!(status, [0], "the worker did not let go");
    assert!(!handle.driver_ready() && handle.actual() == ram.size());
    device.shutdown();
    assert!(doorbells.addresses().is_empty());
}

#[cfg(test)]
mod tests;
