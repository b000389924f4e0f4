//! With a daemon of the published crate `vhost-user-backend`: a network in which every frame comes back.

use std::sync::{Mutex, mpsc};

use memory::backend::BackendSpec;
use memory::size::ByteSize;
use vhost::vhost_user::Listener;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{ShutdownHandle, VhostUserBackendMut, VhostUserDaemon, VringMutex, VringT};
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{self, EventConsumer, EventFlag, EventNotifier};

use super::*;
use crate::virtio::net::features::{F_CSUM, F_GUEST_CSUM, F_GUEST_TSO4, F_MAC, F_MTU, F_STATUS, OPTIONAL};

const RECEIVE: usize = 0;
const SEND: usize = 1;
/// Rings in the first backend, frames in the second.
const RING: u64 = 0x1000;
const FRAMES: u64 = 16 << 20;
/// Of the header before each frame.
const HEADER: u32 = 12;

/// Frames go where they come from.
struct Loop {
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
}

impl Loop {
    /// Moves what there is from one ring to the other; the rest stays where it is.
    fn turn(&self, vrings: &[VringMutex]) {
        let memory = self.memory.memory();
        let (mut from, mut to) = (vrings[SEND].get_mut(), vrings[RECEIVE].get_mut());
        loop {
            // One of the rings may not have been started yet.
            if !(from.get_queue().ready() && to.get_queue().ready()) {
                return;
            }
            let frames = from.get_queue_mut().iter(memory.clone()).unwrap().next();
            let Some(frame) = frames else { break };
            let room = to.get_queue_mut().iter(memory.clone()).unwrap().next();
            let head = frame.head_index();
            let mut bytes = Vec::new();
            for piece in frame {
                let mut part = vec![0; piece.len() as usize];
                memory.read_slice(&mut part, piece.addr()).unwrap();
                bytes.extend(part);
            }
            from.add_used(head, 0).unwrap();
            let Some(room) = room else { continue };
            let head = room.head_index();
            let place = room.into_iter().next().unwrap();
            memory.write_slice(&bytes, place.addr()).unwrap();
            to.add_used(head, u32::try_from(bytes.len()).unwrap()).unwrap();
        }
        from.signal_used_queue().unwrap();
        to.signal_used_queue().unwrap();
    }
}

impl VhostUserBackendMut for Loop {
    type Bitmap = ();
    type Vring = VringMutex;

    fn num_queues(&self) -> usize {
        2
    }

    fn max_queue_size(&self) -> usize {
        256
    }

    fn features(&self) -> u64 {
        const PROTOCOL_FEATURES: u64 = 1 << 30;
        // Of the offloads one that lacks what it needs.
        F_VERSION_1 | F_EVENT_IDX | F_CSUM | F_GUEST_TSO4 | PROTOCOL_FEATURES
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK
    }

    /// Without it the worker outlives the daemon.
    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        event::new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    fn set_event_idx(&mut self, enabled: bool) {
        assert!(!enabled, "the driver did not accept it");
    }

    fn update_memory(&mut self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        self.memory = memory;
        Ok(())
    }

    fn handle_event(&mut self, _: u16, _: EventSet, vrings: &[VringMutex], _: usize) -> io::Result<()> {
        self.turn(vrings);
        Ok(())
    }
}

/// Serves one connection at `path`, and says how to end it once it is there.
fn daemon(path: &Path) -> (mpsc::Receiver<ShutdownHandle>, thread::JoinHandle<()>) {
    let memory = || GuestMemoryAtomic::new(GuestMemoryMmap::new());
    let mut listener = Listener::new(path, true).unwrap();
    let backend = Arc::new(Mutex::new(Loop { memory: memory() }));
    let (told, end) = mpsc::channel();
    let thread = thread::spawn(move || {
        let mut daemon = VhostUserDaemon::new("loop".into(), backend, memory()).unwrap();
        daemon.start(&mut listener).unwrap();
        told.send(daemon.shutdown_handle().unwrap()).unwrap();
        // How it ends does not matter: we go away, or it does.
        let _ = daemon.wait();
    });
    (end, thread)
}

pub(super) fn card() -> VhostUserSpec {
    VhostUserSpec {
        id: "net0".into(),
        kind: Kind::Net {
            mac: "52:54:00:12:34:56".parse().unwrap(),
            features: OPTIONAL,
            mtu: Some(1400),
        },
        queues: 2,
        reconnect: Some(Duration::from_millis(20)),
    }
}

/// Sends a frame of `byte`s and waits until it comes back, in slot `slot` of both rings.
fn there_and_back(ram: &Ram, driver: &Driver<'_>, queues: &mut [DriverQueue<'_>; 2], slot: u16, byte: u8) {
    const LEN: u32 = 600;
    let at = |queue: u64| FRAMES + queue * 0x10_0000 + u64::from(slot) * 0x1000;
    let memory = ram.memory();
    let mut frame = vec![0; HEADER as usize];
    frame.resize((HEADER + LEN) as usize, byte);
    memory.write_slice(&frame, GuestAddress(at(1))).unwrap();
    memory.write_slice(&[0; 4096], GuestAddress(at(0))).unwrap();
    queues[RECEIVE].describe(slot, Descriptor::writable(at(0), 2048));
    queues[RECEIVE].offer(slot);
    driver.notify(0);
    queues[SEND].describe(slot, Descriptor::readable(at(1), HEADER + LEN));
    queues[SEND].offer(slot);
    driver.notify(1);
    let back = patiently("the frame", || queues[RECEIVE].take_used().first().copied());
    assert_eq!(back, (slot.into(), HEADER + LEN));
    let mut there = vec![0; frame.len()];
    memory.read_slice(&mut there, GuestAddress(at(0))).unwrap();
    assert!(there == frame, "the frame is another");
}

#[test]
fn frames_pass_by_a_daemon_and_by_the_next_one() {
    let sixteen = |id: &str| BackendSpec::new(id, BackendKind::memfd(None), ByteSize::mib(16));
    let ram = Ram::open(vec![sixteen("a"), sixteen("b")], &()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let (end, thread) = daemon(&path);
    let introduced = Introduced::new(card(), Box::new(Socket(path.clone()))).unwrap();
    let (_, device) = introduced.with(ram.clone()).unwrap();
    let (device, vectors) = on_bus(device, &ram);
    let driver = Driver::new(&device);
    driver.set_memory_enabled(true);
    assert_eq!(driver.config_read(0) >> 16, 0x1041);
    let offered = driver.offered();
    assert_eq!(
        offered & (F_MAC | F_MTU | F_STATUS | F_CSUM),
        F_MAC | F_MTU | F_STATUS | F_CSUM
    );
    assert_eq!(
        offered & (F_GUEST_TSO4 | F_GUEST_CSUM),
        0,
        "one lacks what it needs"
    );
    assert_eq!(driver.device_config(0).to_le_bytes(), [0x52, 0x54, 0x00, 0x12]);
    let link_up = || driver.device_config(4) >> 16 == 1;
    assert!(link_up());
    assert_eq!(driver.device_config(8), 1400 << 16 | 1);

    driver.enable_msix(3);
    let mut queues = [RING, RING + 0x4000].map(|base| DriverQueue::new(&ram, base, 64));
    let [first, second] = &queues;
    driver.start(offered & !F_EVENT_IDX, &[first, second]);
    for slot in 0..32_u8 {
        there_and_back(&ram, &driver, &mut queues, slot.into(), slot);
    }
    wait_for("the interrupts", || {
        vectors[1..].iter().all(|vector| vector.triggers() > 0)
    });

    let changes = vectors[0].triggers();
    end.recv().unwrap().shutdown();
    thread.join().unwrap();
    wait_for("a link that is down", || !link_up());
    wait_for("its interrupt", || vectors[0].triggers() > changes);
    let (_end, thread) = daemon(&path);
    wait_for("a link that is up", link_up);
    for slot in 32..64_u8 {
        there_and_back(&ram, &driver, &mut queues, slot.into(), slot);
    }
    device.shutdown();
    thread.join().unwrap();
}
