use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Mutex;
use std::time::Instant;

use memory::layout::PCI32_WINDOW_START;
use memory::ram::Ram;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use crate::disk::{Piece, RawImage};
use crate::interrupt::MsiVector;
use crate::testing::{
    Descriptor, Driver, DriverQueue, FakeDoorbells, FakeVector, anonymous_ram, logged, wait_for,
};
use crate::virtio::pci::VirtioPci;
use crate::virtio::{F_EVENT_IDX, F_VERSION_1};

use super::*;

const SECTORS: u64 = 2048;
const RINGS: [u64; 2] = [0x1000, 0x4000];
/// Headers and status bytes of a request, 32 bytes for each; then data.
const HEADERS: u64 = 0x1_0000;
const DATA: u64 = 0x10_0000;

const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
const ID: u32 = 8;
const DISCARD: u32 = 11;
const ZEROES: u32 = 13;

/// Calls that reached the image behind [`Watched`].
#[derive(Debug, Default)]
struct Calls {
    flushes: u32,
    /// What the next calls fail with.
    failure: Option<io::ErrorKind>,
}

/// An image that counts, and fails when told to.
#[derive(Debug)]
struct Watched(RawImage, Arc<Mutex<Calls>>);

impl Watched {
    fn check(&self) -> io::Result<()> {
        self.1
            .lock()
            .unwrap()
            .failure
            .map_or(Ok(()), |kind| Err(kind.into()))
    }
}

impl DiskImage for Watched {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read(&mut self, offset: u64, pieces: &[Piece<'_>]) -> io::Result<()> {
        self.check()?;
        self.0.read(offset, pieces)
    }

    fn write(&mut self, offset: u64, pieces: &[Piece<'_>]) -> io::Result<()> {
        self.check()?;
        self.0.write(offset, pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        self.1.lock().unwrap().flushes += 1;
        self.0.flush()
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.check()?;
        self.0.discard(offset, len)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.check()?;
        self.0.write_zeroes(offset, len, unmap)
    }
}

fn spec() -> BlkSpec {
    BlkSpec {
        id: "disk0".into(),
        serial: "SN-1".into(),
        queues: 1,
        read_only: false,
        discard: true,
    }
}

/// A disk without transport and thread, its queue served by hand.
struct Rig<'a> {
    ram: &'a Ram,
    file: File,
    calls: Arc<Mutex<Calls>>,
    handle: BlkHandle,
    blk: Blk,
    driver: DriverQueue<'a>,
    queues: [VirtQueue; 1],
    faults: Faults,
}

impl<'a> Rig<'a> {
    fn new(ram: &'a Ram, spec: BlkSpec) -> Rig<'a> {
        let file = tempfile::tempfile().unwrap();
        file.set_len(SECTORS * 512).unwrap();
        let calls = Arc::<Mutex<Calls>>::default();
        let image = Watched(
            RawImage::new(file.try_clone().unwrap(), SECTORS * 512),
            calls.clone(),
        );
        let (handle, mut blk) = Blk::new(spec, Box::new(image)).unwrap();
        let driver = DriverQueue::new(ram, RINGS[0], QUEUE_SIZE);
        blk.activate(blk.description().features | F_VERSION_1);
        Rig {
            ram,
            file,
            calls,
            handle,
            blk,
            queues: [driver.device_side(0, F_VERSION_1)],
            driver,
            faults: Faults::new(),
        }
    }

    /// Offers a request whose header, data and status are descriptors `3 n` and the next two.
    fn offer(&mut self, number: u16, kind: u32, sector: u64, data: Descriptor) {
        request(self.ram, &mut self.driver, number, kind, sector, data);
    }

    /// Serves until nothing comes back any more; heads and lengths.
    fn serve(&mut self) -> Vec<(u32, u32)> {
        let mut all = Vec::new();
        loop {
            let memory = self.ram.memory();
            self.blk.process(memory, &mut self.queues, &self.faults).unwrap();
            let _ = self.queues[0].finish(memory).unwrap();
            all.extend(self.driver.take_used());
            if self.blk.event().read().is_err() {
                return all;
            }
        }
    }

    /// One request on its own: its status.
    fn ask(&mut self, kind: u32, sector: u64, data: Descriptor) -> u8 {
        self.offer(0, kind, sector, data);
        assert_eq!(self.serve().len(), 1);
        status(self.ram, 0)
    }

    fn ask_range(&mut self, kind: u32, sector: u64, count: u32, flags: u32) -> u8 {
        let at = GuestAddress(DATA);
        let memory = self.ram.memory();
        memory.write_obj(sector.to_le(), at).unwrap();
        memory.write_obj(count.to_le(), GuestAddress(DATA + 8)).unwrap();
        memory.write_obj(flags.to_le(), GuestAddress(DATA + 12)).unwrap();
        self.ask(kind, 0, Descriptor::readable(DATA, 16))
    }
}

fn request(ram: &Ram, driver: &mut DriverQueue<'_>, number: u16, kind: u32, sector: u64, data: Descriptor) {
    let header = HEADERS + 32 * u64::from(number);
    let memory = ram.memory();
    memory
        .write_obj(u64::from(kind).to_le(), GuestAddress(header))
        .unwrap();
    memory
        .write_obj(sector.to_le(), GuestAddress(header + 8))
        .unwrap();
    memory.write_obj(0xff_u8, GuestAddress(header + 16)).unwrap();
    let first = 3 * number;
    driver.describe(first, Descriptor::readable(header, 16).then(first + 1));
    driver.describe(first + 1, data.then(first + 2));
    driver.describe(first + 2, Descriptor::writable(header + 16, 1));
    driver.offer(first);
}

fn status(ram: &Ram, number: u16) -> u8 {
    let at = HEADERS + 32 * u64::from(number) + 16;
    ram.memory().read_obj(GuestAddress(at)).unwrap()
}

fn fill(ram: &Ram, at: u64, len: usize, byte: u8) {
    ram.memory()
        .write_slice(&vec![byte; len], GuestAddress(at))
        .unwrap();
}

fn bytes(ram: &Ram, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ram.memory().read_slice(&mut bytes, GuestAddress(at)).unwrap();
    bytes
}

#[test]
fn writes_reads_and_flushes() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, spec());
    fill(&ram, DATA, 4096, 7);
    assert_eq!(rig.ask(WRITE, 8, Descriptor::readable(DATA, 4096)), 0);
    assert_eq!(rig.calls.lock().unwrap().flushes, 0);
    assert_eq!(rig.ask(FLUSH, 0, Descriptor::readable(DATA, 0)), 0);
    assert_eq!(rig.calls.lock().unwrap().flushes, 1);
    let mut there = [0; 512];
    rig.file.read_exact_at(&mut there, 15 * 512).unwrap();
    assert_eq!(there, [7; 512]);
    rig.offer(0, READ, 15, Descriptor::writable(DATA + 0x2000, 1024));
    assert_eq!(rig.serve(), [(0, 1025)]);
    assert_eq!(status(&ram, 0), 0);
    assert_eq!(bytes(&ram, DATA + 0x2000, 512), [7; 512]);
    assert_eq!(bytes(&ram, DATA + 0x2200, 512), [0; 512]);
    assert_eq!(rig.ask(ID, 0, Descriptor::writable(DATA, 20)), 0);
    assert_eq!(bytes(&ram, DATA, 20), b"SN-1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
    let stats = rig.handle.stats();
    assert_eq!(
        (stats.written, stats.read, stats.flushes),
        ((4096, 1), (1024, 1), 1)
    );
}

#[test]
fn a_driver_without_flushes_writes_through() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, spec());
    rig.blk.activate(F_VERSION_1);
    assert_eq!(rig.ask(WRITE, 0, Descriptor::readable(DATA, 512)), 0);
    assert_eq!(rig.calls.lock().unwrap().flushes, 1);
    assert_eq!(rig.ask_range(ZEROES, 0, 1, 0), 0);
    assert_eq!(rig.calls.lock().unwrap().flushes, 2);
    let (calls, blk) = (rig.calls, rig.blk);
    drop(blk);
    assert_eq!(calls.lock().unwrap().flushes, 3, "the end flushes");
}

#[test]
fn a_flush_for_the_user_comes_at_once_and_after_what_the_driver_asked_for() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, spec());
    let flushes = |rig: &Rig<'_>| rig.calls.lock().unwrap().flushes;
    rig.blk.activate(F_VERSION_1 | F_FLUSH);
    // More than one turn: the second flush waits for the last.
    for number in 0..40 {
        rig.offer(number, READ, 0, Descriptor::writable(DATA, 512));
    }
    rig.handle.flush().unwrap();
    assert_eq!(rig.blk.event().read().unwrap(), 1);
    rig.blk.handle_event();
    assert_eq!(
        flushes(&rig),
        1,
        "nobody serves queues that the driver has broken"
    );
    let memory = ram.memory();
    rig.blk.process(memory, &mut rig.queues, &rig.faults).unwrap();
    assert_eq!(flushes(&rig), 1);
    rig.blk.process(memory, &mut rig.queues, &rig.faults).unwrap();
    assert_eq!(flushes(&rig), 2);
    rig.blk.process(memory, &mut rig.queues, &rig.faults).unwrap();
    rig.blk.handle_event();
    assert_eq!(flushes(&rig), 2, "one wish");
    // Without a driver nobody calls for its queues.
    rig.blk.reset();
    rig.handle.flush().unwrap();
    rig.blk.handle_event();
    assert_eq!(flushes(&rig), 3);
}

#[test]
fn discards_and_zeros_stay_inside_and_know_their_flags() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, spec());
    rig.file.write_all_at(&[9; 64 << 10], 0).unwrap();
    assert_eq!(rig.ask_range(ZEROES, 8, 8, 0), 0);
    assert_eq!(rig.ask_range(DISCARD, 16, 8, 0), 0);
    assert_eq!(rig.ask_range(ZEROES, 24, 8, 1), 0);
    let mut there = vec![0; 64 << 10];
    rig.file.read_exact_at(&mut there, 0).unwrap();
    assert!(there[..4096].iter().chain(&there[16384..]).all(|byte| *byte == 9));
    assert!(
        there[4096..8192]
            .iter()
            .chain(&there[12288..16384])
            .all(|byte| *byte == 0)
    );
    for (kind, sector, count, flags, expected) in [
        (DISCARD, SECTORS, 1, 0, 1),
        (DISCARD, 0, 0, 0, 1),
        (DISCARD, 0, 8, 1, 2),
        (ZEROES, SECTORS - 1, 2, 0, 1),
        (ZEROES, u64::MAX, 1, 0, 1),
        (ZEROES, 0, u32::MAX, 0, 1),
        (ZEROES, 0, 8, 2, 2),
    ] {
        let got = rig.ask_range(kind, sector, count, flags);
        assert_eq!(got, expected, "{kind} {sector} {count} {flags}");
    }
    // Two ranges in a request are one more than the configuration allows.
    assert_eq!(rig.ask(DISCARD, 0, Descriptor::readable(DATA, 32)), 1);
    assert_eq!(rig.ask(DISCARD, 0, Descriptor::readable(DATA, 15)), 1);
    assert_eq!(rig.handle.stats().discarded, (4096, 1));
}

#[test]
fn a_disk_that_is_read_only_stays_as_it_is() {
    let ram = anonymous_ram(8);
    let read_only = BlkSpec {
        read_only: true,
        ..spec()
    };
    let mut rig = Rig::new(&ram, read_only);
    let features = rig.blk.description().features;
    assert_eq!(features & (F_RO | F_DISCARD | F_WRITE_ZEROES), F_RO);
    fill(&ram, DATA, 512, 7);
    assert_eq!(rig.ask(WRITE, 0, Descriptor::readable(DATA, 512)), 1);
    assert_eq!(rig.ask_range(ZEROES, 0, 1, 0), 1);
    assert_eq!(rig.ask_range(DISCARD, 0, 1, 0), 1);
    assert_eq!(rig.ask(READ, 0, Descriptor::writable(DATA, 512)), 0);
    assert_eq!(bytes(&ram, DATA, 512), [0; 512]);
    assert_eq!(rig.handle.stats().written, (0, 0));
}

#[test]
fn errors_of_the_host_reach_the_guest() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, spec());
    rig.calls.lock().unwrap().failure = Some(io::ErrorKind::StorageFull);
    assert_eq!(rig.ask(WRITE, 0, Descriptor::readable(DATA, 512)), 1);
    assert_eq!(rig.ask(READ, 0, Descriptor::writable(DATA, 512)), 1);
    assert_eq!(rig.ask(FLUSH, 0, Descriptor::readable(DATA, 0)), 1);
    assert_eq!(rig.ask_range(ZEROES, 0, 1, 0), 1);
    assert_eq!(rig.handle.stats().failed, 4);
    rig.calls.lock().unwrap().failure = None;
    assert_eq!(rig.ask(WRITE, 0, Descriptor::readable(DATA, 512)), 0);
}

#[test]
fn nonsense_is_answered_and_harms_nobody() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, spec());
    for (kind, sector, data, expected) in [
        (READ, SECTORS, Descriptor::writable(DATA, 512), 1),
        (READ, 0, Descriptor::writable(DATA, 100), 1),
        (WRITE, u64::MAX, Descriptor::readable(DATA, 512), 1),
        (2, 0, Descriptor::readable(DATA, 512), 2),
        (ID, 0, Descriptor::writable(DATA, 19), 1),
    ] {
        assert_eq!(rig.ask(kind, sector, data), expected, "{kind} {sector} {data:?}");
    }
    // Data outside RAM, a buffer that the device is to write before one that it is to read, and no status.
    rig.offer(0, READ, 0, Descriptor::writable((8 << 20) - 100, 512));
    rig.offer(1, WRITE, 0, Descriptor::readable(u64::MAX - 100, 512));
    rig.driver.describe(9, Descriptor::writable(DATA, 16).then(10));
    rig.driver.describe(10, Descriptor::readable(DATA, 16));
    rig.driver.offer(9);
    rig.driver.describe(12, Descriptor::readable(HEADERS, 16));
    rig.driver.offer(12);
    rig.driver
        .describe(15, Descriptor::readable(HEADERS, 16).then(15));
    rig.driver.offer(15);
    assert_eq!(rig.serve(), [(0, 0), (3, 0), (9, 0), (12, 0), (15, 0)]);
    assert_eq!(rig.faults.get("virtio-chain"), Some(5));
}

#[test]
fn a_call_is_bounded_and_the_rest_follows() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, spec());
    for number in 0..80 {
        rig.offer(number, READ, 0, Descriptor::writable(DATA, 512));
    }
    let memory = ram.memory();
    rig.blk.process(memory, &mut rig.queues, &rig.faults).unwrap();
    assert_eq!(rig.driver.take_used().len(), TURN_REQUESTS);
    assert_eq!(rig.serve().len(), 80 - TURN_REQUESTS);
    // Large ones count by their bytes.
    for number in 0..8 {
        rig.offer(number, READ, 0, Descriptor::writable(DATA, 1 << 20));
    }
    rig.blk.process(memory, &mut rig.queues, &rig.faults).unwrap();
    assert_eq!(rig.driver.take_used().len(), 4);
    assert_eq!(rig.serve().len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever is written, discarded and zeroed: what is read is what a simple model has.
    #[test]
    fn the_disk_has_what_was_written(
        steps in proptest::collection::vec((0..4_u8, 0..SECTORS - 64, 1..64_u32, any::<u8>()), 1..60),
    ) {
        let ram = anonymous_ram(8);
        let mut rig = Rig::new(&ram, spec());
        let mut model = vec![0; usize::try_from(SECTORS * 512).unwrap()];
        for (step, sector, count, byte) in steps {
            let start = usize::try_from(sector * 512).unwrap();
            let part = &mut model[start..start + count as usize * 512];
            match step {
                0 => {
                    fill(&ram, DATA, part.len(), byte);
                    prop_assert_eq!(rig.ask(WRITE, sector, Descriptor::readable(DATA, count * 512)), 0);
                    part.fill(byte);
                }
                1 => {
                    prop_assert_eq!(rig.ask(READ, sector, Descriptor::writable(DATA, count * 512)), 0);
                    prop_assert_eq!(&bytes(&ram, DATA, part.len()), part);
                }
                2 => {
                    prop_assert_eq!(rig.ask_range(ZEROES, sector, count, u32::from(byte & 1)), 0);
                    part.fill(0);
                }
                // Holes of a raw image read as zeros.
                _ => {
                    prop_assert_eq!(rig.ask_range(DISCARD, sector, count, 0), 0);
                    part.fill(0);
                }
            }
        }
        let mut file = vec![1; model.len()];
        rig.file.read_exact_at(&mut file, 0).unwrap();
        prop_assert!(file == model, "the file differs");
    }
}

#[test]
fn several_queues_work_behind_the_transport() {
    let ram = anonymous_ram(8);
    let file = tempfile::tempfile().unwrap();
    file.set_len(SECTORS * 512).unwrap();
    let image = RawImage::new(file.try_clone().unwrap(), SECTORS * 512);
    let two = BlkSpec { queues: 2, ..spec() };
    let (handle, blk) = Blk::new(two, Box::new(image)).unwrap();
    let vectors: Vec<Arc<FakeVector>> = (0..3).map(|_| Arc::default()).collect();
    let given = vectors
        .iter()
        .map(|vector| Arc::clone(vector) as Arc<dyn MsiVector>);
    let device = VirtioPci::new(
        Box::new(blk),
        ram.clone(),
        given.collect(),
        Arc::new(FakeDoorbells::default()),
        Arc::default(),
        PCI32_WINDOW_START,
    );
    let device = device.unwrap();
    let driver = Driver::new(&device);
    assert_eq!(driver.config_read(0) >> 16, 0x1042, "the device's number");
    driver.set_memory_enabled(true);
    driver.enable_msix(3);
    assert_eq!(u64::from(driver.device_config(0)), SECTORS);
    assert_eq!(driver.device_config(32) >> 16, 2, "the number of queues");
    assert_ne!(driver.offered() & F_MQ, 0);
    let [mut first, mut second] = RINGS.map(|base| DriverQueue::new(&ram, base, 64));
    driver.start(driver.offered() & !F_EVENT_IDX, &[&first, &second]);
    for round in 1..=20_u8 {
        fill(&ram, DATA, 4096, round);
        let used = |queue: &mut DriverQueue<'_>| {
            let mut used = Vec::new();
            wait_for("a request", || {
                used = queue.take_used();
                !used.is_empty()
            });
            used
        };
        request(
            &ram,
            &mut first,
            0,
            WRITE,
            round.into(),
            Descriptor::readable(DATA, 512),
        );
        driver.notify(0);
        assert_eq!(used(&mut first), [(0, 1)]);
        request(
            &ram,
            &mut second,
            1,
            READ,
            round.into(),
            Descriptor::writable(DATA + 0x2000, 512),
        );
        driver.notify(1);
        assert_eq!(used(&mut second), [(3, 513)]);
        assert_eq!((status(&ram, 0), status(&ram, 1)), (0, 0));
        assert_eq!(bytes(&ram, DATA + 0x2000, 512), [round; 512]);
    }
    wait_for("the interrupts", || {
        vectors[1..].iter().all(|vector| vector.triggers() > 0)
    });
    assert_eq!(handle.stats().read, (20 * 512, 20));
    driver.reset();
    device.shutdown();
}

#[test]
fn a_guest_that_fails_now_and_then_does_not_fill_the_log() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, spec());
    let start = Instant::now();
    let lines = logged(|| {
        for _ in 0..100 {
            rig.calls.lock().unwrap().failure = Some(io::ErrorKind::StorageFull);
            assert_eq!(rig.ask(WRITE, 0, Descriptor::readable(DATA, 512)), 1);
            rig.calls.lock().unwrap().failure = None;
            assert_eq!(rig.ask(READ, 0, Descriptor::writable(DATA, 512)), 0);
        }
    });
    let most = 1 + start.elapsed().as_secs();
    assert!((1..=most).contains(&(lines.len() as u64)), "{lines:?}");
    assert!(
        lines[0].starts_with("disk 'disk0': the guest gets an I/O error: "),
        "{lines:?}"
    );
    // One that only fails is told of once.
    rig.calls.lock().unwrap().failure = Some(io::ErrorKind::TimedOut);
    rig.blk.limit = LogLimit::default();
    let lines = logged(|| {
        for _ in 0..2 {
            assert_eq!(rig.ask(READ, 0, Descriptor::writable(DATA, 512)), 1);
            rig.blk.limit = LogLimit::default();
        }
    });
    assert_eq!(lines.len(), 1, "{lines:?}");
}
