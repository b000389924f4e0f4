use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use memory::layout::PCI32_WINDOW_START;
use memory::ram::Ram;
use memory::transfer;
use vm_memory::{Bytes, GuestAddress};

use super::features::{F_CSUM, F_GUEST_CSUM, F_GUEST_ECN, F_GUEST_TSO4, F_HOST_ECN, F_HOST_TSO4, MacError};
use crate::interrupt::MsiVector;
use crate::net::{HEADER, MAX_FRAME, Offloads, Piece};
use crate::testing::{
    Descriptor, Driver, DriverQueue, FakeDoorbells, FakeVector, anonymous_ram, logged, wait_for,
};
use crate::virtio::F_VERSION_1;
use crate::virtio::pci::VirtioPci;

use super::*;

const RINGS: [u64; 2] = [0x1000, 0x4000];
const BUFFERS: u64 = 0x1_0000;
/// More than a turn.
const SIZE: u16 = TURN * 2;
/// Bytes between the buffers.
const APART: u64 = 0x2000;

/// A network between two sockets: datagrams are frames.
#[derive(Debug)]
struct Wire {
    socket: UnixDatagram,
    offloads: Arc<Mutex<Vec<Offloads>>>,
}

impl Network for Wire {
    fn receive(&mut self, frame: &mut [u8]) -> io::Result<usize> {
        self.socket.recv(frame)
    }

    fn send(&mut self, frame: &[Piece<'_>]) -> io::Result<()> {
        transfer::send(self.socket.as_fd(), frame)
    }

    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()> {
        self.offloads.lock().unwrap().push(offloads);
        Ok(())
    }

    fn readable(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn wire() -> (UnixDatagram, Wire) {
    let (far, near) = UnixDatagram::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    near.set_nonblocking(true).unwrap();
    let offloads = Arc::default();
    let socket = near;
    (far, Wire { socket, offloads })
}

fn spec() -> NetSpec {
    NetSpec {
        id: "net0".into(),
        mac: Mac::new([0x52, 0x54, 0, 0x12, 0x34, 0x56]).unwrap(),
        features: features::OPTIONAL,
        mtu: None,
    }
}

/// A card without transport and thread, its queues served by hand.
struct Rig<'a> {
    ram: &'a Ram,
    net: Net,
    far: UnixDatagram,
    offloads: Arc<Mutex<Vec<Offloads>>>,
    receive: DriverQueue<'a>,
    send: DriverQueue<'a>,
    queues: [VirtQueue; 2],
    faults: Faults,
}

impl<'a> Rig<'a> {
    fn new(ram: &'a Ram, features: u64) -> Rig<'a> {
        let [receive, send] = RINGS.map(|rings| DriverQueue::new(ram, rings, SIZE));
        let (far, wire) = wire();
        let offloads = Arc::clone(&wire.offloads);
        let mut net = Net::new(spec(), Box::new(wire)).unwrap();
        net.activate(features);
        Rig {
            ram,
            net,
            far,
            offloads,
            queues: [
                receive.device_side(0, F_VERSION_1),
                send.device_side(1, F_VERSION_1),
            ],
            receive,
            send,
            faults: Faults::new(),
        }
    }

    /// Offers a buffer to receive into; buffer and descriptor have the same number.
    fn room(&mut self, index: u16, length: u32) {
        self.receive
            .describe(index, Descriptor::writable(address(index), length));
        self.receive.offer(index);
    }

    /// Serves once.
    fn serve(&mut self) {
        let memory = self.ram.memory();
        self.net.process(memory, &mut self.queues, &self.faults).unwrap();
        for queue in &mut self.queues {
            let _ = queue.finish(memory).unwrap();
        }
    }

    fn received(&mut self) -> Vec<(u32, u32)> {
        self.serve();
        self.receive.take_used()
    }

    fn buffer(&self, index: u16, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let memory = self.ram.memory();
        memory
            .read_slice(&mut bytes, GuestAddress(address(index)))
            .unwrap();
        bytes
    }

    fn faults(&self, name: &str) -> u64 {
        self.faults.get(name).unwrap()
    }
}

fn address(index: u16) -> u64 {
    BUFFERS + APART * u64::from(index)
}

/// A frame with this header's beginning and `length` bytes after it.
fn frame(flags: u8, gso: u8, length: usize) -> Vec<u8> {
    let mut frame = vec![0; HEADER];
    (frame[0], frame[1]) = (flags, gso);
    frame.extend((0..=255).cycle().take(length));
    frame
}

#[test]
fn a_frame_fills_one_buffer_or_several() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, F_MRG_RXBUF);
    rig.far.send(&frame(0, 0, 60)).unwrap();
    rig.far.send(&frame(0, 0, 3000)).unwrap();
    rig.far.send(&frame(0, 0, 14)).unwrap();
    assert_eq!(rig.received(), []);
    rig.room(0, 1500);
    rig.room(1, 1500);
    assert_eq!(rig.received(), [(0, 72)], "no part of a frame that lacks buffers");
    assert_eq!(
        rig.buffer(0, 73)[10..],
        [&[1, 0], &frame(0, 0, 60)[12..], &[0]].concat()
    );
    rig.room(2, 1500);
    rig.room(3, 1500);
    rig.room(4, 26);
    assert_eq!(rig.received(), [(1, 1500), (2, 1500), (3, 12), (4, 26)]);
    let got = [rig.buffer(1, 1500), rig.buffer(2, 1500), rig.buffer(3, 12)].concat();
    assert_eq!(got[..12], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0], "three buffers");
    assert_eq!(got[12..], frame(0, 0, 3000)[12..]);
    assert_eq!(rig.faults("virtio-chain"), 0);
}

/// A driver that looks at its ring all the time, as one under load does: what it saw of a frame without the rest, it would take
/// for all of it.
#[test]
fn no_part_of_a_frame_is_seen() {
    const PIECES: u16 = 32;
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, F_MRG_RXBUF);
    let [.., used] = rig.receive.rings();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let index: u16 = ram.memory().read_obj(GuestAddress(used + 2)).unwrap();
                assert_eq!(index % PIECES, 0, "some buffers of a frame");
            }
        });
        for _ in 0..500 {
            (0..PIECES).for_each(|index| rig.room(index, 100));
            rig.far
                .send(&frame(0, 0, usize::from(PIECES) * 100 - HEADER))
                .unwrap();
            assert_eq!(rig.received().len(), usize::from(PIECES));
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn the_number_of_buffers_may_lie_anywhere() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, F_MRG_RXBUF);
    // The first buffer ends within the field, and is a chain of two.
    rig.receive
        .describe(0, Descriptor::writable(address(0), 5).then(1));
    rig.receive.describe(1, Descriptor::writable(address(1), 6));
    rig.receive.offer(0);
    rig.room(2, 100);
    rig.far.send(&frame(0, 0, 50)).unwrap();
    assert_eq!(rig.received(), [(0, 11), (2, 51)]);
    assert_eq!(rig.buffer(1, 6), [0, 0, 0, 0, 0, 2]);
    assert_eq!(rig.buffer(2, 51)[..], [&[0], &frame(0, 0, 50)[12..]].concat());
}

#[test]
fn without_merging_a_frame_fits_or_is_dropped() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, 0);
    rig.room(0, 1000);
    rig.room(1, 1012);
    rig.far.send(&frame(0, 0, 1000)).unwrap();
    rig.far.send(&frame(0, 0, 1000)).unwrap();
    assert_eq!(rig.received(), [(0, 0), (1, 1012)]);
    assert_eq!(rig.buffer(1, 1012)[10..12], [1, 0]);
    assert_eq!(
        rig.faults("virtio-chain"),
        0,
        "large frames are not the guest's fault"
    );
}

#[test]
fn a_driver_gets_what_it_can_take() {
    let ram = anonymous_ram(8);
    // Flags, kind of GSO, what the driver has accepted, and whether it gets the frame and with which flags.
    let cases = [
        (0, 0, 0, Some(0)),
        (2, 0, 0, Some(0)),
        (2, 0, F_GUEST_CSUM, Some(2)),
        (1, 0, 0, None),
        (1, 0, F_GUEST_CSUM, Some(1)),
        (1, 1, F_GUEST_CSUM, None),
        (1, 1, F_GUEST_CSUM | F_GUEST_TSO4, Some(1)),
        // Accepted without what it needs is not accepted.
        (0, 1, F_GUEST_TSO4, None),
        (1, 4, F_GUEST_CSUM | F_GUEST_TSO4, None),
        (1, 0x81, F_GUEST_CSUM | F_GUEST_TSO4, None),
        (1, 0x81, F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_ECN, Some(1)),
        (0, 0x80, F_GUEST_CSUM | F_GUEST_TSO4 | F_GUEST_ECN, None),
        (1, 3, features::OPTIONAL, None),
    ];
    for (flags, gso, accepted, expected) in cases {
        let mut rig = Rig::new(&ram, accepted);
        rig.room(0, 1500);
        rig.far.send(&frame(flags, gso, 60)).unwrap();
        let got = rig.received();
        let case = format!("flags {flags}, gso {gso:#x}, features {accepted:#x}");
        match expected {
            None => assert_eq!(got, [], "{case}"),
            Some(flags) => {
                assert_eq!(got, [(0, 72)], "{case}");
                assert_eq!(rig.buffer(0, 2), [flags, gso], "{case}");
            }
        }
    }
}

#[test]
fn frames_go_out_whole_whatever_the_descriptors() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, 0);
    let bytes = frame(0, 0, 100);
    ram.memory().write_slice(&bytes, GuestAddress(BUFFERS)).unwrap();
    rig.send.describe(0, Descriptor::readable(BUFFERS, 7).then(1));
    rig.send.describe(1, Descriptor::readable(BUFFERS + 7, 0).then(2));
    rig.send.describe(2, Descriptor::readable(BUFFERS + 7, 105));
    rig.send.offer(0);
    rig.serve();
    assert_eq!(rig.send.take_used(), [(0, 0)]);
    let mut got = [0; 200];
    assert_eq!(rig.far.recv(&mut got).unwrap(), 112);
    assert_eq!(got[..112], bytes);
}

#[test]
fn what_is_no_frame_comes_back_unsent() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, 0);
    let long = u32::try_from(HEADER + MAX_FRAME + 1).unwrap();
    let shapes = [
        (Descriptor::readable(BUFFERS, 25), "net-frame"),
        (Descriptor::readable(BUFFERS, long), "net-frame"),
        (Descriptor::readable(BUFFERS, u32::MAX), "virtio-chain"),
        (Descriptor::readable((8 << 20) - 10, 100), "virtio-chain"),
        (Descriptor::writable(BUFFERS, 100), "virtio-chain"),
        (Descriptor::readable(BUFFERS, 1).then(0), "virtio-chain"),
    ];
    for (shape, fault) in shapes {
        let before = rig.faults(fault);
        rig.send.describe(0, shape);
        rig.send.offer(0);
        rig.serve();
        assert_eq!(rig.send.take_used(), [(0, 0)]);
        assert_eq!(rig.faults(fault), before + 1, "{shape:?}");
    }
    assert_eq!(
        rig.far.recv(&mut [0; 8]).unwrap_err().kind(),
        io::ErrorKind::WouldBlock
    );
}

#[test]
fn buffers_that_are_none_are_left_out() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, F_MRG_RXBUF);
    rig.far.send(&frame(0, 0, 60)).unwrap();
    rig.receive.describe(0, Descriptor::readable(BUFFERS, 100));
    rig.receive.describe(1, Descriptor::writable((8 << 20) - 10, 100));
    rig.receive.describe(2, Descriptor::writable(BUFFERS, 0));
    rig.receive.describe(3, Descriptor::writable(BUFFERS, 0).then(3));
    for head in 0..4 {
        rig.receive.offer(head);
    }
    rig.room(4, 100);
    assert_eq!(rig.received(), [(0, 0), (1, 0), (2, 0), (3, 0), (4, 72)]);
    assert_eq!(rig.faults("virtio-chain"), 4);
    // A frame longer than all buffers together cannot wait for ever.
    rig.far.send(&frame(0, 0, 500)).unwrap();
    for head in 0..SIZE {
        rig.room(head, 1);
    }
    let mut got = rig.received();
    while rig.net.event().read().is_ok() {
        got.extend(rig.received());
    }
    assert_eq!(got.len(), usize::from(SIZE));
    assert!(got.iter().all(|(_, length)| *length == 0));
    rig.far.send(&frame(0, 0, 20)).unwrap();
    rig.room(0, 100);
    assert_eq!(rig.received(), [(0, 32)]);
}

#[test]
fn a_turn_is_bounded_and_comes_again() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, 0);
    let mut sent = 0;
    while rig.far.send(&frame(0, 0, 60)).is_ok() {
        sent += 1;
    }
    let buffers = 16.min(sent);
    for head in 0..buffers {
        rig.room(head, 100);
    }
    assert_eq!(rig.received().len(), usize::from(buffers));
    assert!(
        rig.net.event().read().is_err(),
        "what waits for buffers is no work"
    );
    for head in 0..TURN + 10 {
        rig.send.describe(head, Descriptor::readable(BUFFERS, 100));
        rig.send.offer(head);
    }
    rig.serve();
    assert_eq!(rig.send.take_used().len(), usize::from(TURN));
    rig.net.event().read().expect("the device rings for the rest");
    rig.serve();
    assert_eq!(rig.send.take_used().len(), 10);
    assert!(rig.net.event().read().is_err());
}

#[test]
fn a_reset_forgets_the_driver() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, F_MRG_RXBUF | F_GUEST_CSUM | F_GUEST_TSO4);
    rig.far.send(&frame(0, 0, 3000)).unwrap();
    rig.room(0, 1500);
    assert_eq!(rig.received(), []);
    rig.net.reset();
    rig.net.activate(F_GUEST_CSUM);
    let on = |checksum, tso4| Offloads {
        checksum,
        tso4,
        ..Offloads::default()
    };
    assert_eq!(
        *rig.offloads.lock().unwrap(),
        [on(true, true), on(false, false), on(true, false)]
    );
    rig.far.send(&frame(0, 0, 60)).unwrap();
    rig.room(1, 1500);
    assert_eq!(rig.received(), [(1, 72)], "neither the old frame nor its buffer");
}

#[test]
fn a_network_that_is_gone_is_a_pulled_cable() {
    let ram = anonymous_ram(8);
    let mut rig = Rig::new(&ram, 0);
    assert_eq!(rig.net.config()[6..8], [1, 0]);
    let (far, near) = UnixDatagram::pair().unwrap();
    near.shutdown(std::net::Shutdown::Both).unwrap();
    drop(far);
    // A descriptor that cannot be read from.
    rig.net.network = Box::new(Gone(near));
    rig.serve();
    assert_eq!(rig.net.config()[6..8], [0, 0]);
    rig.net.reset();
    rig.serve();
    assert_eq!(rig.net.config()[6..8], [0, 0]);
}

#[derive(Debug)]
struct Gone(UnixDatagram);

impl Network for Gone {
    fn receive(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn send(&mut self, _: &[Piece<'_>]) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn set_offloads(&mut self, _: Offloads) -> io::Result<()> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn readable(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[test]
fn offers_what_is_sound() {
    let offered = |wanted| {
        let (_, wire) = wire();
        let spec = NetSpec {
            features: wanted,
            ..spec()
        };
        let always = F_MAC | F_STATUS | F_INDIRECT_DESC;
        let features = Net::new(spec, Box::new(wire)).unwrap().description().features;
        assert_eq!(features & always, always);
        features & !always
    };
    let all = features::OPTIONAL;
    assert_eq!(offered(u64::MAX), all);
    assert_eq!(offered(all & !F_CSUM) & (F_HOST_TSO4 | F_HOST_ECN), 0);
    assert_eq!(offered(F_GUEST_TSO4 | F_GUEST_ECN | F_MRG_RXBUF), F_MRG_RXBUF);
    assert_eq!(
        offered(F_CSUM | F_HOST_TSO4 | F_HOST_ECN),
        F_CSUM | F_HOST_TSO4 | F_HOST_ECN
    );
}

#[test]
fn reads_addresses() {
    let read = |text: &str| text.parse::<Mac>().map(|mac| mac.to_string());
    assert_eq!(read("52:54:00:AB:cd:1"), Ok("52:54:00:ab:cd:01".into()));
    assert_eq!(read("52-54-0-0-0-9"), Ok("52:54:00:00:00:09".into()));
    assert_eq!(read("53:54:00:12:34:56"), Err(MacError::Group));
    assert_eq!(read("ff:ff:ff:ff:ff:ff"), Err(MacError::Group));
    assert_eq!(read("0:0:0:0:0:0"), Err(MacError::Zero));
    for text in [
        "",
        "52:54:00:12:34",
        "52:54:00:12:34:56:78",
        "52:54:00:12:34:+6",
        "52:54:00:12:34:156",
        "x",
    ] {
        assert_eq!(read(text), Err(MacError::Form), "{text}");
    }
}

#[test]
fn works_behind_its_transport() {
    let ram = anonymous_ram(8);
    let (far, wire) = wire();
    let net = Net::new(
        NetSpec {
            mtu: Some(1400),
            ..spec()
        },
        Box::new(wire),
    )
    .unwrap();
    let vectors: Vec<Arc<FakeVector>> = (0..3).map(|_| Arc::default()).collect();
    let given = vectors
        .iter()
        .map(|vector| Arc::clone(vector) as Arc<dyn MsiVector>);
    let device = VirtioPci::new(
        Box::new(net),
        ram.clone(),
        given.collect(),
        Arc::new(FakeDoorbells::default()),
        Arc::default(),
        PCI32_WINDOW_START,
    );
    let device = device.unwrap();
    let driver = Driver::new(&device);
    assert_eq!(driver.config_read(0) >> 16, 0x1041, "the device's number");
    driver.set_memory_enabled(true);
    driver.enable_msix(3);
    let [mut receive, mut send] = RINGS.map(|rings| DriverQueue::new(&ram, rings, SIZE));
    // What came before the driver is still there: nothing rings for it again.
    far.send(&frame(0, 0, 60)).unwrap();
    receive.describe(0, Descriptor::writable(address(0), 1500));
    receive.offer(0);
    driver.start(F_MRG_RXBUF | F_MTU, &[&receive, &send]);
    assert_eq!(driver.device_config(8), 1400 << 16 | 1);
    let mut used = Vec::new();
    let mut wait = |queue: &mut DriverQueue<'_>, what: &str| {
        wait_for(what, || {
            used = queue.take_used();
            !used.is_empty()
        });
        std::mem::take(&mut used)
    };
    assert_eq!(wait(&mut receive, "the first frame"), [(0, 72)]);
    // Frames without a kick, and one that waits for a kick.
    for round in 0..20 {
        receive.describe(0, Descriptor::writable(address(0), 1500));
        if round % 2 == 0 {
            receive.offer(0);
            far.send(&frame(0, 0, 100)).unwrap();
        } else {
            far.send(&frame(0, 0, 100)).unwrap();
            receive.offer(0);
            driver.notify(0);
        }
        assert_eq!(wait(&mut receive, "a frame"), [(0, 112)]);
    }
    send.describe(0, Descriptor::readable(address(0), 112));
    send.offer(0);
    driver.notify(1);
    assert_eq!(wait(&mut send, "a frame to be sent"), [(0, 0)]);
    let mut got = [0; 200];
    assert_eq!(far.recv(&mut got).unwrap(), 112);
    wait_for("interrupts", || {
        vectors[1].triggers() > 0 && vectors[2].triggers() > 0
    });
    driver.reset();
    device.shutdown();
}

#[test]
fn a_flood_without_buffers_does_not_spin() {
    let ram = anonymous_ram(8);
    let (far, wire) = wire();
    let calls = Arc::new(Mutex::new(0_u32));
    #[derive(Debug)]
    struct Counted(Wire, Arc<Mutex<u32>>);
    impl Network for Counted {
        fn receive(&mut self, frame: &mut [u8]) -> io::Result<usize> {
            *self.1.lock().unwrap() += 1;
            self.0.receive(frame)
        }
        fn send(&mut self, frame: &[Piece<'_>]) -> io::Result<()> {
            self.0.send(frame)
        }
        fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()> {
            self.0.set_offloads(offloads)
        }
        fn readable(&self) -> BorrowedFd<'_> {
            self.0.readable()
        }
    }
    let net = Net::new(spec(), Box::new(Counted(wire, Arc::clone(&calls)))).unwrap();
    let vectors: Vec<Arc<dyn MsiVector>> = (0..3)
        .map(|_| Arc::new(FakeVector::default()) as Arc<dyn MsiVector>)
        .collect();
    let doorbells = Arc::new(FakeDoorbells::default());
    let device = VirtioPci::new(
        Box::new(net),
        ram.clone(),
        vectors,
        doorbells,
        Arc::default(),
        PCI32_WINDOW_START,
    );
    let device = device.unwrap();
    let driver = Driver::new(&device);
    driver.set_memory_enabled(true);
    let [receive, send] = RINGS.map(|rings| DriverQueue::new(&ram, rings, SIZE));
    driver.start(F_MRG_RXBUF, &[&receive, &send]);
    while far.send(&frame(0, 0, 60)).is_ok() {}
    wait_for("the first frame", || *calls.lock().unwrap() > 0);
    std::thread::sleep(std::time::Duration::from_millis(50));
    let before = *calls.lock().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(
        *calls.lock().unwrap(),
        before,
        "a frame in hand, and nothing is asked for"
    );
    driver.reset();
    device.shutdown();
}

#[test]
fn a_driver_that_starts_again_and_again_without_a_network_does_not_fill_the_log() {
    let mut net = Net::new(spec(), Box::new(Gone(UnixDatagram::unbound().unwrap()))).unwrap();
    let start = Instant::now();
    let lines = logged(|| {
        for _ in 0..100 {
            net.activate(features::OPTIONAL);
            net.reset();
        }
    });
    let most = 1 + start.elapsed().as_secs();
    assert!((1..=most).contains(&(lines.len() as u64)), "{lines:?}");
    assert!(
        lines[0].starts_with("'net0': the network keeps its offloads: "),
        "{lines:?}"
    );
}
