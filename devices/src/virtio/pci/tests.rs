use std::sync::Condvar;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use memory::layout::PCI32_WINDOW_START;
use proptest::prelude::*;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::testing::{
    Descriptor, Driver, DriverQueue, FakeDoorbells, FakeVector, anonymous_ram, fuzz, wait_for,
};
use crate::virtio::queue::{QueueError, VirtQueue};
use crate::virtio::{Description, F_EVENT_IDX, Memory};

use super::*;

const BAR: u64 = PCI32_WINDOW_START + 0x8000;
const FEATURE: u64 = 1 << 3;

/// What a test does to its device and sees of it, from outside the worker.
#[derive(Debug)]
struct Remote {
    event: EventFd,
    /// The first four bytes of configuration.
    value: Mutex<u32>,
    written: Mutex<Vec<u32>>,
    timer: Mutex<Option<Instant>>,
    features: Mutex<Option<u64>>,
    resets: AtomicUsize,
    served: AtomicUsize,
    /// While closed, `process` waits.
    gate: Mutex<bool>,
    opened: Condvar,
}

impl Remote {
    fn set_value(&self, value: u32) {
        *self.value.lock().unwrap() = value;
        self.event.write(1).unwrap();
    }

    fn set_gate(&self, open: bool) {
        *self.gate.lock().unwrap() = open;
        self.opened.notify_all();
    }
}

/// Two queues; every chain is returned unread. Configuration: four bytes of its own, four of the driver's.
#[derive(Debug)]
struct Echo {
    remote: Arc<Remote>,
    config: [u8; 8],
    awaited: &'static [u16],
}

impl VirtioDevice for Echo {
    fn description(&self) -> Description {
        Description {
            id: "echo".into(),
            device_type: 5,
            class: 0,
            features: FEATURE,
            queue_sizes: vec![16, 16],
            config_writable: vec![4..6, 6..8],
        }
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn event(&self) -> &EventFd {
        &self.remote.event
    }

    fn awaited(&self) -> &[u16] {
        self.awaited
    }

    fn next_timer(&self) -> Option<Instant> {
        *self.remote.timer.lock().unwrap()
    }

    fn activate(&mut self, features: u64) {
        *self.remote.features.lock().unwrap() = Some(features);
    }

    fn handle_event(&mut self) {
        self.remote
            .timer
            .lock()
            .unwrap()
            .take_if(|due| *due <= Instant::now());
        self.config[..4].copy_from_slice(&self.remote.value.lock().unwrap().to_le_bytes());
    }

    fn config_written(&mut self, config: &[u8]) {
        self.config.copy_from_slice(config);
        self.remote
            .written
            .lock()
            .unwrap()
            .push(u32::from_le_bytes(config[4..].try_into().unwrap()));
        self.config[..4].copy_from_slice(&self.remote.value.lock().unwrap().to_le_bytes());
    }

    fn process(&mut self, memory: &Memory, queues: &mut [VirtQueue], _: &Faults) -> Result<(), QueueError> {
        self.remote.served.fetch_add(1, Ordering::SeqCst);
        drop(
            self.remote
                .opened
                .wait_while(self.remote.gate.lock().unwrap(), |open| !*open)
                .unwrap(),
        );
        for queue in queues {
            let heads: Vec<u16> = queue.available(memory)?.map(|chain| chain.head()).collect();
            for head in heads {
                queue.add_used(memory, head, 7)?;
            }
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.remote.resets.fetch_add(1, Ordering::SeqCst);
        self.config[4..].fill(0);
    }
}

struct Rig {
    ram: Ram,
    remote: Arc<Remote>,
    vectors: Vec<Arc<FakeVector>>,
    doorbells: Arc<FakeDoorbells>,
    faults: Arc<Faults>,
    device: Arc<VirtioPci>,
}

impl Drop for Rig {
    fn drop(&mut self) {
        // A test that fails with the gate closed must not hang.
        self.remote.set_gate(true);
    }
}

impl Rig {
    fn new() -> Rig {
        Rig::awaiting(&[])
    }

    fn awaiting(awaited: &'static [u16]) -> Rig {
        let remote = Arc::new(Remote {
            event: EventFd::new(EFD_NONBLOCK).unwrap(),
            value: Mutex::default(),
            written: Mutex::default(),
            timer: Mutex::default(),
            features: Mutex::default(),
            resets: AtomicUsize::new(0),
            served: AtomicUsize::new(0),
            gate: Mutex::new(true),
            opened: Condvar::new(),
        });
        let vectors: Vec<Arc<FakeVector>> = (0..3).map(|_| Arc::default()).collect();
        let (doorbells, faults) = (Arc::new(FakeDoorbells::default()), Arc::new(Faults::new()));
        let ram = anonymous_ram(4);
        let echo = Box::new(Echo {
            remote: Arc::clone(&remote),
            config: [0; 8],
            awaited,
        });
        let lines = vectors
            .iter()
            .map(|vector| Arc::clone(vector) as Arc<dyn MsiVector>)
            .collect();
        let device = VirtioPci::new(
            echo,
            ram.clone(),
            lines,
            doorbells.clone(),
            Arc::clone(&faults),
            BAR,
        )
        .unwrap();
        Rig {
            ram,
            remote,
            vectors,
            doorbells,
            faults,
            device,
        }
    }

    fn driver(&self) -> Driver<'_> {
        let driver = Driver::new(&self.device);
        driver.set_memory_enabled(true);
        driver.enable_msix(3);
        driver
    }

    fn queues(&self) -> [DriverQueue<'_>; 2] {
        [0x1000, 0x2000].map(|base| DriverQueue::new(&self.ram, base, 16))
    }

    fn fault(&self, name: &str) -> u64 {
        self.faults.get(name).unwrap()
    }
}

fn offer_one(queue: &mut DriverQueue<'_>) {
    queue.describe(0, Descriptor::readable(0x8000, 4));
    queue.offer(0);
}

#[test]
fn a_driver_finds_and_uses_the_device() {
    let rig = Rig::new();
    let driver = rig.driver();
    assert_eq!(driver.offered(), FEATURE | F_EVENT_IDX | 1 << 32);
    let [mut first, mut second] = rig.queues();
    driver.start(FEATURE, &[&first, &second]);
    wait_for("activation", || {
        *rig.remote.features.lock().unwrap() == Some(FEATURE | 1 << 32)
    });
    offer_one(&mut second);
    assert!(rig.doorbells.ring(BAR + 0x3004));
    wait_for("the used chain", || second.used_index() == 1);
    wait_for("the interrupt", || rig.vectors[2].triggers() == 1);
    assert_eq!(second.take_used(), [(0, 7)]);
    offer_one(&mut first);
    driver.notify(0);
    wait_for("the used chain without a doorbell", || first.used_index() == 1);
    wait_for("the interrupt", || rig.vectors[1].triggers() == 1);
    assert_eq!(driver.status(), 15);
    assert_eq!(driver.read(0x1000, 1), 0, "ISR is not used with MSI-X");
}

#[test]
fn kicks_before_driver_ok_are_served_at_the_start() {
    let rig = Rig::new();
    let driver = rig.driver();
    let [mut first, second] = rig.queues();
    offer_one(&mut first);
    driver.notify(0);
    driver.start(0, &[&first, &second]);
    wait_for("the used chain", || first.used_index() == 1);
}

#[test]
fn doorbells_follow_the_bar() {
    let rig = Rig::new();
    let driver = Driver::new(&rig.device);
    assert!(rig.doorbells.addresses().is_empty(), "memory is not decoded yet");
    assert_eq!(rig.device.bar(), None);
    driver.set_memory_enabled(true);
    assert_eq!(rig.doorbells.addresses(), [BAR + 0x3000, BAR + 0x3004]);
    assert_eq!(rig.device.bar(), Some((BAR, BAR_BYTES)));
    // Sizing with decoding on moves the BAR out of the window for a moment.
    driver.config_write(0x10, 4, 0xffff_ffff);
    assert_eq!(driver.config_read(0x10), 0xffff_8000);
    assert!(rig.doorbells.addresses().is_empty());
    let moved = PCI32_WINDOW_START + 0x10_0000;
    driver.config_write(0x10, 4, u32::try_from(moved).unwrap());
    assert_eq!(rig.doorbells.addresses(), [moved + 0x3000, moved + 0x3004]);
    driver.set_memory_enabled(false);
    assert!(rig.doorbells.addresses().is_empty());
    driver.set_memory_enabled(true);
    assert_eq!(rig.doorbells.addresses().len(), 2);
    rig.device.shutdown();
    assert!(rig.doorbells.addresses().is_empty());
}

#[test]
fn a_refused_doorbell_leaves_the_register() {
    let rig = Rig::new();
    rig.doorbells.set_refuse(true);
    let driver = rig.driver();
    let [mut first, second] = rig.queues();
    driver.start(0, &[&first, &second]);
    offer_one(&mut first);
    driver.notify(0);
    wait_for("the used chain", || first.used_index() == 1);
    rig.doorbells.set_refuse(false);
    driver.set_memory_enabled(true);
    assert_eq!(rig.doorbells.addresses().len(), 2);
}

#[test]
fn the_devices_news_reach_the_driver() {
    let rig = Rig::new();
    rig.remote.set_value(5);
    let driver = rig.driver();
    wait_for("the value set before there was a driver", || {
        driver.device_config(0) == 5
    });
    let [first, second] = rig.queues();
    driver.start(0, &[&first, &second]);
    assert_eq!(rig.vectors[0].triggers(), 0);
    let before = driver.generation();
    assert_eq!(driver.device_config(0), 5);
    rig.remote.set_value(6);
    wait_for("the interrupt", || rig.vectors[0].triggers() == 1);
    assert_eq!(driver.device_config(0), 6);
    assert_ne!(driver.generation(), before);
    assert_eq!(driver.read(0x1000, 1), 2);
    assert_eq!(driver.read(0x1000, 1), 0, "reading clears");
    rig.remote.set_value(6);
    rig.remote.set_value(7);
    wait_for("the next interrupt", || rig.vectors[0].triggers() == 2);
}

#[test]
fn the_drivers_configuration_reaches_the_device() {
    let rig = Rig::new();
    let driver = rig.driver();
    driver.set_device_config(4, 1);
    assert_eq!(
        (driver.device_config(4), rig.fault("virtio-register")),
        (0, 1),
        "before there is a driver"
    );
    let [first, second] = rig.queues();
    driver.start(0, &[&first, &second]);
    driver.set_device_config(4, 77);
    wait_for("the write", || {
        rig.remote.written.lock().unwrap().last() == Some(&77)
    });
    assert_eq!(driver.device_config(4), 77);
    driver.set_device_config(0, 1);
    assert_eq!((driver.device_config(0), rig.fault("virtio-register")), (0, 2));
    rig.remote.set_value(3);
    wait_for("the device's half", || driver.device_config(0) == 3);
    assert_eq!(driver.device_config(4), 77, "the driver's half stays");
}

/// Status reads 0 only after the worker let go of the rings.
#[test]
fn reset_waits_for_work_in_flight() {
    let rig = Rig::new();
    let driver = rig.driver();
    let [mut first, second] = rig.queues();
    driver.start(0, &[&first, &second]);
    wait_for("the start", || rig.remote.served.load(Ordering::SeqCst) == 1);
    rig.remote.set_gate(false);
    offer_one(&mut first);
    driver.notify(0);
    wait_for("the work", || rig.remote.served.load(Ordering::SeqCst) == 2);
    driver.set_status(0);
    for _ in 0..50 {
        assert_eq!(driver.status(), 15);
        assert_eq!(first.used_index(), 0);
        // A driver that does not wait is not heard.
        driver.set_status(1);
        std::thread::yield_now();
    }
    rig.remote.set_gate(true);
    wait_for("the reset", || driver.status() == 0);
    assert_eq!(
        first.used_index(),
        1,
        "the work was finished before the rings were given up"
    );
    assert_eq!(rig.remote.resets.load(Ordering::SeqCst), 1);
    offer_one(&mut first);
    driver.notify(0);
    assert_eq!(
        rig.remote.served.load(Ordering::SeqCst),
        2,
        "no driver, no service"
    );
    let fresh = rig.queues();
    driver.start(0, &[&fresh[0], &fresh[1]]);
    wait_for("the next life", || rig.remote.served.load(Ordering::SeqCst) >= 3);
}

/// A kernel that starts another one takes bus mastering away, and the other finds a device that leaves its memory alone.
#[test]
fn without_bus_mastering_the_rings_stay_untouched_until_a_reset() {
    let rig = Rig::new();
    let driver = rig.driver();
    let [mut first, second] = rig.queues();
    driver.start(0, &[&first, &second]);
    wait_for("the start", || rig.remote.served.load(Ordering::SeqCst) == 1);
    let command = driver.config_read(4) & 0xffff;
    driver.config_write(4, 2, command & !4);
    offer_one(&mut first);
    driver.notify(0);
    rig.remote.set_value(6);
    wait_for("the device's own half", || driver.device_config(0) == 6);
    // The next driver switches it on again before anything else.
    driver.config_write(4, 2, command);
    driver.notify(0);
    rig.remote.set_value(7);
    wait_for("the device's own half", || driver.device_config(0) == 7);
    assert_eq!(rig.remote.served.load(Ordering::SeqCst), 1);
    assert_eq!((first.used_index(), rig.vectors[0].triggers()), (0, 0));
    let [mut first, second] = rig.queues();
    driver.start(0, &[&first, &second]);
    offer_one(&mut first);
    driver.notify(0);
    wait_for("the used chain", || first.used_index() == 1);
}

#[test]
fn a_storm_of_resets_and_starts_ends_well() {
    let rig = Rig::new();
    let driver = rig.driver();
    for round in 0..200 {
        // Only then are the rings the driver's, to be used anew.
        driver.reset();
        let [mut first, second] = rig.queues();
        driver.start(0, &[&first, &second]);
        driver.set_status(15);
        offer_one(&mut first);
        driver.notify(0);
        if round % 3 == 0 {
            wait_for("the used chain", || first.used_index() == 1);
        }
    }
    driver.reset();
    assert_eq!(rig.fault("virtio-queue"), 0);
}

#[test]
fn machine_reset_restores_power_on_registers() {
    let rig = Rig::new();
    let driver = rig.driver();
    let [first, second] = rig.queues();
    driver.start(0, &[&first, &second]);
    driver.config_write(0x10, 4, u32::try_from(PCI32_WINDOW_START).unwrap());
    rig.device.reset();
    assert_eq!(driver.status(), 0);
    assert_eq!(driver.config_read(0x10), u32::try_from(BAR).unwrap());
    assert_eq!(driver.config_read(4) & 0xffff, 0);
    assert!(rig.doorbells.addresses().is_empty());
    assert!(rig.vectors.iter().all(|vector| vector.route_now().is_none()));
    assert_eq!(driver.queue_registers(0), (16, 0, [0; 3]));
    let driver = rig.driver();
    let [mut first, second] = rig.queues();
    driver.start(0, &[&first, &second]);
    offer_one(&mut first);
    driver.notify(0);
    wait_for("the used chain", || first.used_index() == 1);
}

#[test]
fn a_broken_ring_asks_for_a_reset() {
    let rig = Rig::new();
    let driver = rig.driver();
    let [mut first, second] = rig.queues();
    driver.start(0, &[&first, &second]);
    first.set_available(1000);
    driver.notify(0);
    wait_for("DEVICE_NEEDS_RESET", || driver.status() == 0x4f);
    wait_for("the interrupt", || rig.vectors[0].triggers() == 1);
    assert_eq!(rig.fault("virtio-queue"), 1);
    let served = rig.remote.served.load(Ordering::SeqCst);
    driver.notify(1);
    driver.set_status(15);
    assert_eq!(driver.status(), 0x4f);
    let [mut first, second] = rig.queues();
    driver.start(0, &[&first, &second]);
    offer_one(&mut first);
    driver.notify(0);
    wait_for("the used chain", || first.used_index() == 1);
    assert!(rig.remote.served.load(Ordering::SeqCst) > served);
}

/// A device is called when its moment has come, with its queues if they are live, and not again and again.
#[test]
fn a_timer_wakes_the_device() {
    let rig = Rig::new();
    let driver = rig.driver();
    let set = |millis| {
        *rig.remote.timer.lock().unwrap() = Some(Instant::now() + Duration::from_millis(millis));
        // The worker hears of a timer when something else has happened.
        rig.remote.event.write(1).unwrap();
    };
    let gone = || rig.remote.timer.lock().unwrap().is_none();
    set(20);
    wait_for("the timer", gone);
    let served = || rig.remote.served.load(Ordering::SeqCst);
    assert_eq!(served(), 0, "there are no queues yet");
    let [first, second] = rig.queues();
    driver.start(0, &[&first, &second]);
    wait_for("the start", || served() == 1);
    set(20);
    wait_for("event and timer", || gone() && served() >= 2);
    std::thread::sleep(Duration::from_millis(50));
    // Twice, or once where both came together.
    assert!((2..=3).contains(&served()));
}

/// Rings that lie outside RAM, over the device's own registers, or askew.
#[test]
fn unusable_rings_ask_for_a_reset() {
    let rig = Rig::new();
    let driver = rig.driver();
    for base in [BAR + 0x3000, 0xfee0_0000, rig.ram.size().bytes() - 16] {
        driver.negotiate(0);
        let [first, _] = rig.queues();
        driver.set_queue(0, &first, 1);
        driver.reset();
        driver.negotiate(0);
        driver.write(0x16, 2, 0);
        for register in [0x20, 0x28, 0x30] {
            driver.write(register, 8, base);
        }
        driver.write(0x1c, 2, 1);
        driver.set_status(15);
        wait_for("DEVICE_NEEDS_RESET", || driver.status() == 0x4f);
    }
    assert_eq!(rig.fault("virtio-queue"), 3);
    assert_eq!(rig.remote.served.load(Ordering::SeqCst), 0);
}

#[test]
fn bad_status_and_features_are_counted() {
    let rig = Rig::new();
    let driver = rig.driver();
    driver.set_status(15);
    assert_eq!((driver.status(), rig.fault("virtio-status")), (0, 1));
    assert_eq!(driver.negotiate(1 << 7), 3);
    assert_eq!(rig.fault("virtio-features"), 1);
    driver.set_status(0x83);
    assert_eq!(driver.status(), 0x83);
    driver.set_status(11);
    assert_eq!((driver.status(), rig.fault("virtio-status")), (0x83, 2));
    driver.reset();
}

#[test]
fn the_window_in_configuration_space_reaches_the_bar() {
    let rig = Rig::new();
    let driver = Driver::new(&rig.device);
    let window = driver.capability(9, Some(5)).unwrap();
    let point = |offset: u32, length: u32| {
        driver.config_write(window + 4, 1, 0);
        driver.config_write(window + 8, 4, offset);
        driver.config_write(window + 12, 4, length);
    };
    point(0x14, 1);
    driver.config_write(window + 16, 1, 1);
    assert_eq!(driver.status(), 1, "works without memory decoding");
    assert_eq!(driver.config_read(window + 16) & 0xff, 1);
    point(0x12, 2);
    assert_eq!(driver.config_read(window + 16) & 0xffff, 2);
    point(0x04, 4);
    assert_eq!(driver.config_read(window + 16), 1 << 29 | 8);
    let faults = rig.fault("pci-config");
    for (bar, offset, length) in [
        (1, 0, 4),
        (0, 2, 4),
        (0, 0, 3),
        (0, 0, 0),
        (0, 0, u32::MAX),
        (0xff, 0, 1),
    ] {
        point(offset, length);
        driver.config_write(window + 4, 1, bar);
        let _ = driver.config_read(window + 16);
        driver.config_write(window + 16, 4, 0xffff_ffff);
    }
    assert_eq!(rig.fault("pci-config"), faults + 12);
    point(0xffff_fffc, 4);
    assert_eq!(driver.config_read(window + 16), 0);
}

#[test]
fn every_register_takes_every_width() {
    let rig = Rig::new();
    let driver = rig.driver();
    for select in [0, 1, 2, 0xffff] {
        driver.write(0x16, 2, select);
        for offset in (0..BAR_BYTES).filter(|offset| offset % 0x1000 < 0x80 || offset % 0x1000 > 0xff0) {
            for width in [1, 2, 4, 8] {
                if offset + width <= BAR_BYTES {
                    let width = usize::try_from(width).unwrap();
                    driver.read(offset, width);
                    driver.write(offset, width, 0);
                }
            }
        }
    }
    for offset in [
        BAR_BYTES - 1,
        BAR_BYTES,
        u64::from(u32::MAX),
        u64::MAX - 7,
        u64::MAX,
    ] {
        for width in [1, 2, 4, 8] {
            driver.write(offset, width, u64::MAX);
            assert_eq!(driver.read(offset, width), 0);
        }
    }
    for offset in 0..4089 {
        for width in [1, 2, 4, 8] {
            let mut data = [0; 8];
            rig.device.config_read(offset, &mut data[..width]);
            let _ = rig.device.config_write(offset, &data[..width]);
        }
    }
    driver.reset();
}

#[test]
fn a_notification_for_no_queue_is_a_fault() {
    let rig = Rig::new();
    let driver = rig.driver();
    driver.notify(2);
    driver.notify(1023);
    assert_eq!(rig.fault("virtio-register"), 2);
}

#[test]
fn impossible_devices_are_refused() {
    let make = |vectors: usize, bar| {
        let rig = Rig::new();
        let echo = Box::new(Echo {
            remote: Arc::clone(&rig.remote),
            config: [0; 8],
            awaited: &[],
        });
        let lines = (0..vectors)
            .map(|_| Arc::new(FakeVector::default()) as Arc<dyn MsiVector>)
            .collect();
        let faults = Arc::new(Faults::new());
        VirtioPci::new(echo, rig.ram.clone(), lines, rig.doorbells.clone(), faults, bar).map(drop)
    };
    assert!(make(1, BAR).is_ok());
    for (vectors, bar) in [(0, BAR), (257, BAR), (3, BAR + 0x1000), (3, 1 << 32)] {
        assert!(matches!(make(vectors, bar), Err(Error::CheckDevice { .. })));
    }
}

#[test]
fn nothing_hangs_after_the_worker_has_stopped() {
    let rig = Rig::new();
    let driver = rig.driver();
    let [first, second] = rig.queues();
    driver.start(0, &[&first, &second]);
    rig.device.shutdown();
    rig.device.shutdown();
    driver.notify(0);
    driver.reset();
    rig.device.reset();
    assert_eq!(driver.status(), 0);
}

#[test]
fn the_end_waits_for_a_worker_but_not_for_one_that_waits_for_memory() {
    for (comes, left) in [(true, "request done"), (false, "doorbells gone")] {
        let rig = Rig::new();
        let (driver, [mut first, second]) = (rig.driver(), rig.queues());
        driver.start(0, &[&first, &second]);
        wait_for("the driver's start", || {
            rig.remote.served.load(Ordering::SeqCst) > 0
        });
        rig.remote.set_gate(false);
        offer_one(&mut first);
        driver.notify(0);
        wait_for("the request", || rig.remote.served.load(Ordering::SeqCst) > 1);
        let asked = AtomicUsize::new(0);
        rig.device.end(&|worker| {
            assert_eq!(worker.thread().name(), Some("echo"));
            if comes && asked.fetch_add(1, Ordering::SeqCst) == 3 {
                rig.remote.set_gate(true);
            }
            !comes
        });
        assert_eq!(
            first.take_used(),
            if comes { vec![(0, 7)] } else { vec![] },
            "{left}"
        );
        assert!(rig.doorbells.addresses().is_empty(), "{left}");
        // Comes to nothing: the worker is gone, or nobody knows of it any more.
        rig.device.shutdown();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Random register accesses with kicks between them: no panic, and the worker survives.
    #[test]
    fn random_accesses_are_survived(data in prop::collection::vec(any::<u8>(), 0..2000)) {
        fuzz::virtio_registers(&data);
    }

    /// The class of CVE-2026-5747, through the whole transport and with the worker at work: from DRIVER_OK on, whatever
    /// is written to the queue registers, they read as before and the rings work on.
    #[test]
    fn queue_registers_are_inert_while_live(
        writes in prop::collection::vec((0x16_u64..0x38, 0..4_usize, any::<u64>()), 1..60)
    ) {
        let rig = Rig::new();
        let driver = rig.driver();
        let [mut first, second] = rig.queues();
        driver.start(0, &[&first, &second]);
        let before = [driver.queue_registers(0), driver.queue_registers(1)];
        for (offset, width, value) in writes {
            driver.write(offset, 1 << width, value);
            driver.notify(0);
        }
        prop_assert_eq!(before, [driver.queue_registers(0), driver.queue_registers(1)]);
        offer_one(&mut first);
        driver.notify(0);
        wait_for("the used chain", || first.used_index() == 1);
        prop_assert_eq!(driver.status(), 15);
    }
}

#[test]
fn a_kick_that_is_waited_for_ends_when_the_buffer_is_used() {
    let rig = Rig::awaiting(&[1]);
    let (driver, [first, mut second]) = (rig.driver(), rig.queues());
    driver.start(0, &[&first, &second]);
    assert_eq!(
        rig.doorbells.addresses(),
        [BAR + 0x3000],
        "the other one is an exit"
    );
    wait_for("the driver's start", || {
        rig.remote.features.lock().unwrap().is_some()
    });
    let used = (0..100).filter(|_| {
        offer_one(&mut second);
        driver.notify(1);
        !second.take_used().is_empty()
    });
    // A machine may be too busy to run the worker in time.
    let used = used.count();
    assert!(used > 50, "{used} of 100");
}

#[test]
fn a_kick_does_not_wait_for_a_worker_that_does_not_come() {
    let rig = Rig::awaiting(&[1]);
    let (driver, [first, mut second]) = (rig.driver(), rig.queues());
    driver.start(0, &[&first, &second]);
    wait_for("the driver's start", || {
        rig.remote.features.lock().unwrap().is_some()
    });
    rig.remote.set_gate(false);
    offer_one(&mut second);
    // Would stand still here.
    driver.notify(1);
    driver.notify(1);
    assert_eq!(second.take_used(), []);
    rig.remote.set_gate(true);
    wait_for("the buffer", || !second.take_used().is_empty());
    rig.device.shutdown();
    driver.notify(1);
}
