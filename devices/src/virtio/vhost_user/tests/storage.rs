//! With a real daemon: QEMU's storage daemon, which exports an image as a vhost-user disk.

use memory::size::PageSize;

use super::*;
use crate::testing::HugePages;

const SIZE: u64 = 8 << 20;
const RING: u64 = 0x1000;
/// Headers and status bytes, 32 bytes for each request; then data, 4 KiB for each.
const HEADERS: u64 = 0x1_0000;
const DATA: u64 = 0x10_0000;
const BYTES: u32 = 4096;

const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;

/// A running daemon; killed with the value.
struct Daemon(Child);

impl Daemon {
    fn start(directory: &Path) -> Daemon {
        let (image, socket) = (directory.join("disk.raw"), directory.join("socket"));
        let _ = std::fs::remove_file(&socket);
        let child = Command::new("qemu-storage-daemon")
            .arg("--blockdev")
            .arg(format!("driver=file,node-name=disk,filename={}", image.display()))
            .arg("--export")
            .arg(format!(
                "type=vhost-user-blk,id=e,node-name=disk,writable=on,num-queues=2,addr.type=unix,addr.path={}",
                socket.display()
            ))
            .stdin(Stdio::null())
            .spawn()
            .expect("qemu-storage-daemon (Debian: qemu-system-common)");
        wait_for("the daemon's socket", || socket.exists());
        Daemon(child)
    }

    /// SIGKILL.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// An image, and a directory for the socket.
fn directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let image = File::create(directory.path().join("disk.raw")).unwrap();
    image.set_len(SIZE).unwrap();
    directory
}

fn introduce(directory: &Path, reconnect: Option<Duration>) -> Introduced {
    let mut introduced = None;
    wait_for("an answer of the daemon", || {
        let dial = Box::new(Socket(directory.join("socket")));
        introduced = Introduced::new(spec(reconnect), dial).ok();
        introduced.is_some()
    });
    introduced.unwrap()
}

/// A driver's disk.
struct Disk<'a> {
    ram: &'a Ram,
    driver: Driver<'a>,
    queues: [DriverQueue<'a>; 2],
    /// Who gets the next request.
    next: usize,
}

impl<'a> Disk<'a> {
    fn new(ram: &'a Ram, device: &'a VirtioPci) -> Disk<'a> {
        let driver = Driver::new(device);
        driver.set_memory_enabled(true);
        let queues = [RING, RING + 0x4000].map(|base| DriverQueue::new(ram, base, 64));
        Disk {
            ram,
            driver,
            queues,
            next: 0,
        }
    }

    fn start(&mut self) {
        self.driver.reset();
        self.queues = [RING, RING + 0x4000].map(|base| DriverQueue::new(self.ram, base, 64));
        self.driver.enable_msix(3);
        let features = self.driver.offered() & !F_EVENT_IDX;
        let [first, second] = &self.queues;
        self.driver.start(features, &[first, second]);
    }

    /// Makes a request available, in the queue whose turn it is.
    fn ask(&mut self, kind: u32, sector: u64) -> usize {
        let at = self.next;
        self.next = (at + 1) % self.queues.len();
        let (header, data) = (HEADERS + 32 * at as u64, DATA + u64::from(BYTES) * at as u64);
        let memory = self.ram.memory();
        memory.write_obj(kind.to_le(), GuestAddress(header)).unwrap();
        memory.write_obj(0_u32, GuestAddress(header + 4)).unwrap();
        memory
            .write_obj(sector.to_le(), GuestAddress(header + 8))
            .unwrap();
        memory.write_obj(0xff_u8, GuestAddress(header + 16)).unwrap();
        let queue = &mut self.queues[at];
        queue.describe(
            0,
            Descriptor::readable(header, 16).then(if kind == FLUSH { 2 } else { 1 }),
        );
        let body = match kind {
            READ => Descriptor::writable(data, BYTES),
            _ => Descriptor::readable(data, BYTES),
        };
        queue.describe(1, body.then(2));
        queue.describe(2, Descriptor::writable(header + 16, 1));
        queue.offer(0);
        self.driver.notify(u16::try_from(at).unwrap());
        at
    }

    /// Waits for the request that `queue` has, and returns its status.
    fn answer(&mut self, queue: usize) -> u8 {
        wait_for("an answer", || !self.queues[queue].take_used().is_empty());
        let status = GuestAddress(HEADERS + 32 * queue as u64 + 16);
        self.ram.memory().read_obj(status).unwrap()
    }

    fn write(&mut self, sector: u64, byte: u8) {
        let data = GuestAddress(DATA + u64::from(BYTES) * self.next as u64);
        self.ram
            .memory()
            .write_slice(&[byte; BYTES as usize], data)
            .unwrap();
        let queue = self.ask(WRITE, sector);
        assert_eq!(self.answer(queue), 0);
    }

    /// Whether all bytes there are `byte`.
    fn reads(&mut self, sector: u64, byte: u8) -> bool {
        let queue = self.ask(READ, sector);
        assert_eq!(self.answer(queue), 0);
        let mut bytes = vec![0; BYTES as usize];
        let data = GuestAddress(DATA + u64::from(BYTES) * queue as u64);
        self.ram.memory().read_slice(&mut bytes, data).unwrap();
        bytes.iter().all(|found| *found == byte)
    }
}

#[test]
fn a_daemon_serves_a_disk_from_shared_memory() {
    serves(&open_ram(BackendKind::memfd(None), 16));
    let files = tempfile::tempdir_in("/dev/shm").unwrap();
    serves(&open_ram(BackendKind::file(files.path()), 16));
}

#[test]
fn a_daemon_serves_a_disk_from_huge_pages() {
    let _pool = HugePages::take(8);
    serves(&open_ram(BackendKind::memfd(Some(PageSize::HUGE_2M)), 16));
}

/// A daemon reads and writes for three drivers, one after the other; it holds back no memory that is given back, and lets the rings
/// go when the machine stands still.
fn serves(ram: &Ram) {
    let directory = directory();
    let _daemon = Daemon::start(directory.path());
    let (handle, device) = introduce(directory.path(), None).with(ram.clone()).unwrap();
    let (device, vectors) = on_bus(device, ram);
    let mut disk = Disk::new(ram, &device);
    assert_eq!(disk.driver.config_read(0) >> 16, 0x1042);
    assert_eq!(u64::from(disk.driver.device_config(0)), SIZE / 512);
    assert_eq!(disk.driver.device_config(32) >> 16, 2, "the number of queues");
    for driver in 1..=3_u8 {
        disk.start();
        for sector in 0..16_u8 {
            disk.write(u64::from(sector) * 8, driver ^ sector);
        }
        let flush = disk.ask(FLUSH, 0);
        assert_eq!(disk.answer(flush), 0);
        for sector in 0..16_u8 {
            assert!(disk.reads(u64::from(sector) * 8, driver ^ sector));
        }
        let past_the_end = disk.ask(READ, SIZE / 512);
        assert_eq!(disk.answer(past_the_end), 1);
    }
    // The daemon interrupts the driver itself, also where the driver moves a vector, and by way of us where it has none.
    wait_for("the interrupts", || {
        vectors[1..].iter().all(|vector| vector.rung() > 0)
    });
    const QUEUE_SELECT: u64 = 0x16;
    const QUEUE_VECTOR: u64 = 0x1a;
    disk.driver.write(QUEUE_SELECT, 2, 0);
    disk.driver.write(QUEUE_VECTOR, 2, 0);
    wait_for("an interrupt elsewhere", || {
        assert!(disk.reads(0, 3));
        vectors[0].rung() > 0
    });
    let msix = disk.driver.capability(0x11, None).unwrap();
    disk.driver.config_write(msix + 2, 2, 0);
    const ISR: u64 = 0x1000;
    wait_for("the interrupt status", || {
        assert!(disk.reads(0, 3));
        disk.driver.read(ISR, 1) & 1 != 0
    });
    disk.driver.enable_msix(3);
    let image = File::open(directory.path().join("disk.raw")).unwrap();
    let mut bytes = [0; 1];
    image.read_exact_at(&mut bytes, 15 * u64::from(BYTES)).unwrap();
    assert_eq!(bytes, [3 ^ 15], "what the driver wrote is in the image");

    // The daemon's mapping of the file holds no page that goes back to the host.
    let (start, len) = (GuestAddress(12 << 20), 2 << 20);
    ram.memory().write_slice(&vec![1; len], start).unwrap();
    let resident = || ram.backends()[0].resident().unwrap().bytes();
    let before = resident();
    let len = len as u64;
    let released = ram.release(&[GuestRange { start, len }]);
    assert_eq!((released.discarded, before - resident()), (len, len));

    // A machine that stands still: nothing is served until it goes on.
    handle.pause(true).unwrap();
    thread::sleep(Duration::from_millis(100));
    let waiting = disk.ask(READ, 0);
    thread::sleep(Duration::from_millis(100));
    assert!(disk.queues[waiting].take_used().is_empty());
    handle.pause(false).unwrap();
    assert_eq!(disk.answer(waiting), 0);
    device.shutdown();
}

#[test]
fn a_disk_goes_on_with_the_next_daemon() {
    let (ram, directory) = (open_ram(BackendKind::memfd(None), 16), directory());
    let daemon = Daemon::start(directory.path());
    let pause = Some(Duration::from_millis(20));
    let (_, device) = introduce(directory.path(), pause).with(ram.clone()).unwrap();
    let (device, _) = on_bus(device, &ram);
    let mut disk = Disk::new(&ram, &device);
    disk.start();
    disk.write(0, 7);
    daemon.kill();
    let _ = std::fs::remove_file(directory.path().join("socket"));
    // Longer than it takes to notice: nobody had this request before.
    thread::sleep(Duration::from_millis(300));
    let waiting = disk.ask(READ, 0);
    thread::sleep(Duration::from_millis(100));
    assert!(disk.queues[waiting].take_used().is_empty());
    let daemon = Daemon::start(directory.path());
    assert_eq!(disk.answer(waiting), 0);
    disk.write(8, 9);
    assert!(disk.reads(0, 7));
    assert!(disk.reads(8, 9));

    // The same again with a driver that comes meanwhile.
    daemon.kill();
    disk.driver.reset();
    disk.start();
    let waiting = disk.ask(READ, 8);
    let _daemon = Daemon::start(directory.path());
    assert_eq!(disk.answer(waiting), 0);
    device.shutdown();
}

#[test]
fn without_reconnect_the_driver_hears_of_it() {
    let (ram, directory) = (open_ram(BackendKind::memfd(None), 16), directory());
    let daemon = Daemon::start(directory.path());
    let (_, device) = introduce(directory.path(), None).with(ram.clone()).unwrap();
    let (device, _) = on_bus(device, &ram);
    let mut disk = Disk::new(&ram, &device);
    disk.start();
    disk.write(0, 7);
    daemon.kill();
    wait_for("DEVICE_NEEDS_RESET", || disk.driver.status() & 64 != 0);
    let _daemon = Daemon::start(directory.path());
    thread::sleep(Duration::from_millis(200));
    // A reset looks for the daemon once more.
    disk.start();
    assert!(disk.reads(0, 7));
    device.shutdown();
}

#[test]
fn memory_that_is_not_shared_is_refused() {
    let directory = directory();
    let _daemon = Daemon::start(directory.path());
    let error = introduce(directory.path(), None)
        .with(anonymous_ram(16))
        .unwrap_err();
    assert!(error.to_string().contains("backend 'ram'"), "{error}");
}
