//! What becomes of requests that a daemon had in work when it died. The daemon is a stand-in that takes messages and serves nothing:
//! the test answers requests itself, as that daemon would have.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, mpsc};

use memory::backend::BackendSpec;
use memory::size::ByteSize;
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::hostile::answer;
use super::*;
use crate::testing::logged;
use crate::virtio::outside::Outside;

const GET_FEATURES: u32 = 1;
const SET_MEM_TABLE: u32 = 5;
const SET_VRING_BASE: u32 = 10;
const GET_VRING_BASE: u32 = 11;
const GET_PROTOCOL_FEATURES: u32 = 15;
const GET_CONFIG: u32 = 24;
const GET_INFLIGHT_FD: u32 = 31;
const SET_INFLIGHT_FD: u32 = 32;
const CONFIG: u64 = 1 << 9;
const INFLIGHT_SHMFD: u64 = 1 << 12;

const RING: u64 = 0x1000;
/// Requests that a daemon has taken when it lets go of a ring.
const TAKEN: u32 = 4;

/// What a daemon was told.
#[derive(Clone, Debug, Default)]
struct Told {
    /// The number of a queue's next request.
    bases: HashMap<u32, u32>,
    /// The record of requests in work that it was given, by its inode.
    record: Option<u64>,
    /// How often it was given the guest's memory.
    tables: u32,
    /// How often it had to let go of a ring.
    stops: u32,
    /// The record that it made.
    made: Option<u64>,
}

/// A connection as a daemon has it.
struct Stand {
    stream: UnixStream,
    told: Arc<Mutex<Told>>,
}

impl Stand {
    /// Answers what comes on `stream`, as a daemon with these protocol features, until it ends.
    fn serve(stream: UnixStream, features: u64) -> Stand {
        let told = Arc::<Mutex<Told>>::default();
        let (theirs, log) = (stream.try_clone().unwrap(), told.clone());
        thread::spawn(move || while one(&theirs, features, &log).is_some() {});
        Stand { stream, told }
    }

    fn told(&self) -> Told {
        self.told.lock().unwrap().clone()
    }

    /// It dies.
    fn die(self) {
        self.stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
}

/// Takes one request; `None` at the end.
fn one(mut stream: &UnixStream, features: u64, told: &Mutex<Told>) -> Option<()> {
    let mut header = [0; 12];
    let (len, file) = stream.recv_with_fd(&mut header).ok()?;
    if len != header.len() {
        return None;
    }
    let word = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let (number, size) = (word(&header, 0), word(&header, 8) as usize);
    let mut payload = vec![0; size];
    io::Read::read_exact(&mut stream, &mut payload).ok()?;
    let mut told = told.lock().unwrap();
    let value = match number {
        GET_FEATURES => (1_u64 << 30 | F_VERSION_1 | F_EVENT_IDX).to_le_bytes().to_vec(),
        GET_PROTOCOL_FEATURES => features.to_le_bytes().to_vec(),
        GET_CONFIG => payload,
        GET_VRING_BASE => {
            told.stops += 1;
            payload[4..8].copy_from_slice(&TAKEN.to_le_bytes());
            payload
        }
        SET_VRING_BASE => {
            told.bases.insert(word(&payload, 0), word(&payload, 4));
            return Some(());
        }
        SET_MEM_TABLE => {
            told.tables += 1;
            return Some(());
        }
        SET_INFLIGHT_FD => {
            told.record = Some(file?.metadata().unwrap().ino());
            return Some(());
        }
        GET_INFLIGHT_FD => {
            let record = tempfile::tempfile().unwrap();
            told.made = Some(record.metadata().unwrap().ino());
            payload[..8].copy_from_slice(&4096_u64.to_le_bytes());
            let bytes = answer(number, &payload);
            stream.send_with_fd(&bytes[..], record.as_raw_fd()).ok()?;
            return Some(());
        }
        _ => return Some(()),
    };
    stream.write_all(&answer(number, &value)).ok()
}

/// Connections that the test gets the other end of.
#[derive(Debug)]
struct Pairs(mpsc::Sender<UnixStream>);

impl Dial for Pairs {
    fn dial(&self) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        self.0
            .send(theirs)
            .map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(ours)
    }
}

struct Rig<'a> {
    handle: VhostUserHandle,
    connections: mpsc::Receiver<UnixStream>,
    features: u64,
    driver: Driver<'a>,
    queue: DriverQueue<'a>,
    ram: &'a Ram,
}

impl Rig<'_> {
    /// The next daemon.
    fn daemon(&self) -> Stand {
        Stand::serve(
            self.connections.recv_timeout(Duration::from_secs(20)).unwrap(),
            self.features,
        )
    }

    /// The daemon answers so many requests: one of them later than those that came after it.
    fn answers(&self, count: u16) {
        let at = GuestAddress(self.queue.rings()[2] + 2);
        self.ram.memory().write_obj(count.to_le(), at).unwrap();
    }

    fn needs_reset(&self) -> bool {
        self.driver.status() & 64 != 0
    }
}

/// Does `test` with a driver that has made four requests available to a daemon with these protocol features, of which it has
/// answered two.
fn with_requests(features: u64, test: impl FnOnce(&mut Rig<'_>, Stand)) {
    let ram = open_ram(BackendKind::memfd(None), 16);
    let (sender, connections) = mpsc::channel();
    let make = thread::spawn(|| {
        let pause = Some(Duration::from_millis(20));
        Introduced::new(spec(pause), Box::new(Pairs(sender))).unwrap()
    });
    let first = Stand::serve(connections.recv().unwrap(), features);
    let (handle, device) = make.join().unwrap().with(ram.clone()).unwrap();
    let (device, _) = on_bus(device, &ram);
    let driver = Driver::new(&device);
    driver.set_memory_enabled(true);
    let mut rig = Rig {
        handle,
        connections,
        features,
        driver,
        queue: DriverQueue::new(&ram, RING, 16),
        ram: &ram,
    };
    rig.driver
        .start(rig.driver.offered() & !F_EVENT_IDX, &[&rig.queue]);
    wait_for("the start of the ring", || first.told().bases.contains_key(&0));
    for head in 0..4 {
        rig.queue.offer(head);
    }
    rig.answers(2);
    test(&mut rig, first);
    drop(rig);
    device.shutdown();
}

#[test]
fn the_record_of_requests_in_work_goes_to_the_next_daemon() {
    with_requests(CONFIG | INFLIGHT_SHMFD, |rig, first| {
        let made = first.told().made;
        assert!(made.is_some() && first.told().record == made);
        first.die();
        let second = rig.daemon();
        wait_for("the start of the ring", || {
            second.told().bases.get(&0) == Some(&2)
        });
        assert_eq!((second.told().record, second.told().made), (made, None));
        assert!(!rig.needs_reset());
        // Another driver has other requests.
        rig.driver.reset();
        rig.queue = DriverQueue::new(rig.ram, RING, 16);
        rig.driver
            .start(rig.driver.offered() & !F_EVENT_IDX, &[&rig.queue]);
        wait_for("the start of the ring", || {
            second.told().bases.get(&0) == Some(&0)
        });
        let told = second.told();
        assert!(told.made.is_some() && told.record == told.made);
        assert_eq!(
            told.tables, 1,
            "memory that a daemon has is not taken away under its requests"
        );
    });
}

#[test]
fn without_a_record_a_disk_with_open_requests_needs_a_reset() {
    with_requests(CONFIG, |rig, first| {
        first.die();
        let second = rig.daemon();
        wait_for("DEVICE_NEEDS_RESET", || rig.needs_reset());
        rig.driver.reset();
        assert!(!rig.needs_reset());
        rig.queue = DriverQueue::new(rig.ram, RING, 16);
        rig.driver
            .start(rig.driver.offered() & !F_EVENT_IDX, &[&rig.queue]);
        wait_for("the start of the ring", || {
            second.told().bases.get(&0) == Some(&0)
        });
        assert!(!rig.needs_reset());
    });
}

#[test]
fn without_a_record_a_disk_with_no_open_requests_goes_on() {
    with_requests(CONFIG, |rig, first| {
        rig.answers(4);
        first.die();
        let second = rig.daemon();
        wait_for("the start of the ring", || {
            second.told().bases.get(&0) == Some(&4)
        });
        assert!(!rig.needs_reset());
    });
}

#[test]
fn a_daemon_may_die_while_the_machine_stands_still() {
    for (answered, needs_reset) in [(2, true), (4, false)] {
        with_requests(CONFIG, |rig, first| {
            rig.handle.pause(true).unwrap();
            wait_for("the end of the ring", || first.told().stops > 0);
            rig.answers(answered);
            first.die();
            let second = rig.daemon();
            rig.handle.pause(false).unwrap();
            match needs_reset {
                true => wait_for("DEVICE_NEEDS_RESET", || rig.needs_reset()),
                false => wait_for("the start of the ring", || {
                    second.told().bases.get(&0) == Some(&4)
                }),
            }
        });
    }
}

/// Guest memory in two files.
fn ram_of_two_nodes() -> Ram {
    let node = |number| {
        let size = ByteSize::mib(8);
        let mut spec = BackendSpec::new(format!("m{number}"), BackendKind::memfd(None), size);
        spec.guest_node = number;
        spec
    };
    Ram::open(vec![node(0), node(1)], &()).unwrap()
}

#[test]
fn a_ring_across_two_pieces_of_memory_is_not_given_to_a_daemon() {
    let ram = ram_of_two_nodes();
    let (sender, connections) = mpsc::channel();
    let make = thread::spawn(|| Introduced::new(spec(None), Box::new(Pairs(sender))).unwrap());
    let daemon = Stand::serve(connections.recv().unwrap(), CONFIG);
    let (_, device) = make.join().unwrap().with(ram.clone()).unwrap();
    let (device, _) = on_bus(device, &ram);
    let driver = Driver::new(&device);
    driver.set_memory_enabled(true);
    let start = |base| {
        driver.reset();
        let queue = DriverQueue::new(&ram, base, 16);
        driver.start(driver.offered() & !F_EVENT_IDX, &[&queue]);
    };
    // Each of its three parts.
    for part in [128, 16 * 16 + 16, 16 * 16 + 48 + 16] {
        start((8 << 20) - part);
        wait_for("DEVICE_NEEDS_RESET", || driver.status() & 64 != 0);
        assert!(daemon.told().bases.is_empty());
    }
    start(RING);
    wait_for("the start of the ring", || daemon.told().bases.contains_key(&0));
    device.shutdown();
}

#[test]
fn a_driver_that_starts_again_and_again_with_daemons_that_die_does_not_fill_the_log() {
    const STARTS: usize = 20;
    let ram = open_ram(BackendKind::memfd(None), 16);
    let (sender, connections) = mpsc::channel();
    let (theirs, daemons) = mpsc::channel();
    // Each answers as soon as it is called.
    let serve = thread::spawn(move || {
        for stream in connections {
            theirs.send(Stand::serve(stream, CONFIG)).unwrap();
        }
    });
    let introduced = Introduced::new(spec(None), Box::new(Pairs(sender))).unwrap();
    let (handle, mut device) = introduced.with(ram).unwrap();
    let start = Instant::now();
    let lines = logged(|| {
        for _ in 0..STARTS {
            daemons.recv().unwrap().die();
            wait_for("the end of the connection", || {
                device.take_interrupts(&mut Vec::new());
                !handle.is_connected()
            });
            device.start(F_VERSION_1, Vec::new());
            assert!(handle.is_connected());
        }
    });
    for words in ["has lost its daemon: ", "has a daemon again"] {
        let told = lines.iter().filter(|line| line.contains(words)).count();
        let most = 1 + usize::try_from(start.elapsed().as_secs()).unwrap();
        assert!((1..=most.min(STARTS)).contains(&told), "{lines:?}");
    }
    drop(device);
    serve.join().unwrap();
}
