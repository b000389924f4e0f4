use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use memory::layout::PCI32_WINDOW_START;
use memory::ram::Ram;
use vm_memory::GuestAddress;

use crate::interrupt::MsiVector;
use crate::testing::{Descriptor, Driver, DriverQueue, FakeDoorbells, FakeVector, anonymous_ram, wait_for};
use crate::virtio::F_VERSION_1;
use crate::virtio::pci::VirtioPci;

use super::*;

const RINGS: u64 = 0x1000;
const BUFFERS: u64 = 0x1_0000;

/// Answers of a source, in their order; none left means none now.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<VecDeque<io::Result<Vec<u8>>>>>);

impl Script {
    fn then(self, answer: io::Result<Vec<u8>>) -> Script {
        self.0.lock().unwrap().push_back(answer);
        self
    }
}

impl Read for Script {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let answer = self.0.lock().unwrap().pop_front();
        let bytes = answer.unwrap_or_else(|| Err(ErrorKind::WouldBlock.into()))?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }
}

fn spec() -> RngSpec {
    RngSpec {
        id: "rng0".into(),
        max_bytes: None,
        period: Duration::from_secs(65),
    }
}

/// A device without transport and thread, its queue served by hand.
struct Rig<'a> {
    ram: &'a Ram,
    rng: Rng,
    driver: DriverQueue<'a>,
    queues: [VirtQueue; 1],
    faults: Faults,
}

impl<'a> Rig<'a> {
    fn new(ram: &'a Ram, spec: RngSpec, source: EntropySource) -> Rig<'a> {
        let driver = DriverQueue::new(ram, RINGS, QUEUE_SIZE);
        Rig {
            ram,
            rng: Rng::new(spec, source).unwrap(),
            queues: [driver.device_side(0, F_VERSION_1)],
            driver,
            faults: Faults::new(),
        }
    }

    /// Offers one buffer of `length` bytes; buffer and descriptor have the same number.
    fn offer(&mut self, index: u16, length: u32) {
        let address = BUFFERS + 0x1000 * u64::from(index);
        self.driver.describe(index, Descriptor::writable(address, length));
        self.driver.offer(index);
    }

    /// Serves once; heads and lengths of what came back.
    fn serve(&mut self) -> Vec<(u32, u32)> {
        let memory = self.ram.memory();
        self.rng.process(memory, &mut self.queues, &self.faults).unwrap();
        let _ = self.queues[0].finish(memory).unwrap();
        self.driver.take_used()
    }

    fn buffer(&self, index: u16) -> [u8; 16] {
        let address = GuestAddress(BUFFERS + 0x1000 * u64::from(index));
        self.ram.memory().read_obj(address).unwrap()
    }

    fn bad_chains(&self) -> u64 {
        self.faults.get("virtio-chain").unwrap()
    }
}

#[test]
fn hands_on_each_byte_once_and_in_order() {
    let ram = anonymous_ram(8);
    let source = Script::default()
        .then(Ok((1..=8).collect()))
        .then(Ok(vec![9, 10]));
    let mut rig = Rig::new(&ram, spec(), Box::new(source));
    for index in 0..4 {
        rig.offer(index, 5);
    }
    // What the source has is never more than one buffer's worth of waiting.
    assert_eq!(rig.serve(), [(0, 5), (1, 3), (2, 2)]);
    assert_eq!(rig.buffer(0)[..6], [1, 2, 3, 4, 5, 0]);
    assert_eq!(rig.buffer(1)[..4], [6, 7, 8, 0]);
    assert_eq!(rig.buffer(2)[..3], [9, 10, 0]);
}

#[test]
fn a_source_without_bytes_is_asked_again_and_again() {
    let ram = anonymous_ram(8);
    let source = Script::default()
        .then(Ok(Vec::new()))
        .then(Err(ErrorKind::BrokenPipe.into()));
    let mut rig = Rig::new(&ram, spec(), Box::new(source.clone()));
    rig.offer(0, 4);
    for _ in 0..3 {
        assert_eq!(rig.serve(), []);
        let wait = rig.rng.next_timer().expect("a timer");
        assert!(wait > Instant::now());
        rig.rng.handle_event();
    }
    drop(source.then(Ok(vec![7; 4])));
    assert_eq!(rig.serve(), [(0, 4)]);
    assert_eq!(rig.buffer(0)[..5], [7, 7, 7, 7, 0]);
    rig.rng.reset();
    assert_eq!(rig.rng.next_timer(), None);
}

#[test]
fn a_period_has_its_bytes_and_no_more() {
    let ram = anonymous_ram(8);
    let limited = RngSpec {
        max_bytes: Some(6),
        period: Duration::from_millis(200),
        ..spec()
    };
    let mut rig = Rig::new(&ram, limited, Box::new(KernelEntropy));
    let start = Instant::now();
    for index in 0..3 {
        rig.offer(index, 4);
    }
    assert_eq!(rig.serve(), [(0, 4), (1, 2)]);
    let due = rig.rng.next_timer().expect("a timer");
    assert!(due >= start + Duration::from_millis(200));
    // Neither asking again nor a reset brings more.
    rig.rng.reset();
    assert_eq!(rig.serve(), []);
    std::thread::sleep(due.saturating_duration_since(Instant::now()));
    rig.rng.handle_event();
    assert_eq!(rig.serve(), [(2, 4)]);
}

#[test]
fn a_kick_takes_bounded_work() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, spec(), Box::new(KernelEntropy));
    // A buffer of all addresses that there are, one that ends where RAM does, one that is not to be written.
    rig.driver.describe(0, Descriptor::writable(BUFFERS, u32::MAX));
    rig.driver.describe(1, Descriptor::writable((8 << 20) - 4, 100));
    rig.driver.describe(2, Descriptor::readable(BUFFERS, 100));
    // A chain of nothing that leads to itself.
    rig.driver.describe(3, Descriptor::writable(BUFFERS, 0).then(3));
    for head in 0..4 {
        rig.driver.offer(head);
    }
    let limit = u32::try_from(POOL).unwrap();
    assert_eq!(rig.serve(), [(0, limit), (1, 0), (2, 0), (3, 0)]);
    assert_eq!(rig.bad_chains(), 3);
    // A chain is a list of buffers like any other.
    rig.driver.describe(0, Descriptor::writable(BUFFERS, 10).then(1));
    rig.driver.describe(1, Descriptor::writable(BUFFERS + 10, 6));
    rig.driver.offer(0);
    assert_eq!(rig.serve(), [(0, 16)]);
    assert_eq!(rig.bad_chains(), 3);
    assert_ne!(rig.buffer(0), [0; 16]);
}

/// What a driver adds to a ring while as many chains as it holds are served, it need not ring for.
#[test]
fn a_full_turn_is_followed_by_another() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, spec(), Box::new(KernelEntropy));
    for count in [QUEUE_SIZE - 1, QUEUE_SIZE] {
        (0..count).for_each(|index| rig.offer(index, 1));
        assert_eq!(rig.serve().len(), usize::from(count));
        assert_eq!(rig.rng.event().read().is_ok(), count == QUEUE_SIZE);
    }
}

/// A buffer that ends beyond RAM has had what was written before that; one that is not to be written gets nothing.
#[test]
fn what_bad_buffers_get_counts() {
    let ram = anonymous_ram(8);
    let limited = RngSpec {
        max_bytes: Some(260),
        ..spec()
    };
    let source = Script::default()
        .then(Ok((0..=255).collect()))
        .then(Ok(vec![7; 8]));
    let mut rig = Rig::new(&ram, limited, Box::new(source));
    rig.driver.describe(0, Descriptor::readable(BUFFERS, 256));
    rig.driver.describe(1, Descriptor::writable((8 << 20) - 255, 256));
    rig.driver.offer(0);
    rig.driver.offer(1);
    rig.offer(2, 16);
    assert_eq!(rig.serve(), [(0, 0), (1, 0), (2, 4)]);
    assert_eq!(rig.bad_chains(), 2);
    let written: u8 = ram.memory().read_obj(GuestAddress((8 << 20) - 1)).unwrap();
    assert_eq!(written, 254, "the first buffer got nothing");
    assert_eq!(rig.buffer(2)[..5], [7, 7, 7, 7, 0], "no byte twice");
}

#[test]
fn works_behind_its_transport() {
    let ram = anonymous_ram(8);
    let rng = Rng::new(spec(), Box::new(KernelEntropy)).unwrap();
    let vectors: Vec<Arc<FakeVector>> = (0..2).map(|_| Arc::default()).collect();
    let doorbells = Arc::new(FakeDoorbells::default());
    let given = vectors
        .iter()
        .map(|vector| Arc::clone(vector) as Arc<dyn MsiVector>);
    let device = VirtioPci::new(
        Box::new(rng),
        ram.clone(),
        given.collect(),
        doorbells,
        Arc::default(),
        PCI32_WINDOW_START,
    );
    let device = device.unwrap();
    let driver = Driver::new(&device);
    assert_eq!(driver.config_read(0) >> 16, 0x1044, "the device's number");
    driver.set_memory_enabled(true);
    driver.enable_msix(2);
    let mut queue = DriverQueue::new(&ram, RINGS, QUEUE_SIZE);
    driver.start(0, &[&queue]);
    // There is no configuration to read.
    assert_eq!(driver.device_config(0), 0);
    let buffer = || ram.memory().read_obj::<[u8; 32]>(GuestAddress(BUFFERS)).unwrap();
    let mut seen = vec![[0; 32]];
    for _ in 0..4 {
        queue.describe(0, Descriptor::writable(BUFFERS, 32));
        queue.offer(0);
        driver.notify(0);
        let mut used = Vec::new();
        wait_for("random bytes", || {
            used = queue.take_used();
            !used.is_empty()
        });
        assert_eq!(used, [(0, 32)]);
        assert!(!seen.contains(&buffer()), "the same bytes twice");
        seen.push(buffer());
    }
    wait_for("the interrupt", || vectors[1].triggers() > 0);
    driver.reset();
    device.shutdown();
}
