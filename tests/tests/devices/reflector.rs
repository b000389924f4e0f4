//! A network that a daemon is (vhost-user, with the published crate): it has one neighbour, who answers ARP and pings.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::thread::{self, JoinHandle};

use tests::harness;
use vhost::vhost_user::Listener;
use vhost::vhost_user::message::VhostUserProtocolFeatures;
use vhost_user_backend::{ShutdownHandle, VhostUserBackendMut, VhostUserDaemon, VringMutex, VringT};
use virtio_queue::{QueueOwnedT, QueueT};
use vm_memory::{Bytes, GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;
use vmm_sys_util::event::{self, EventConsumer, EventFlag, EventNotifier};

/// VIRTIO_F_VERSION_1, VIRTIO_F_EVENT_IDX, VHOST_USER_F_PROTOCOL_FEATURES.
const FEATURES: u64 = 1 << 32 | 1 << 29 | 1 << 30;
const RECEIVE: usize = 0;
const SEND: usize = 1;
/// Of the header before each frame.
const HEADER: usize = 12;
/// The neighbour's address.
const MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x00, 0x00, 0x01];

/// Makes the answer to a frame; `None` where nobody is meant.
fn reflect(frame: &[u8]) -> Option<Vec<u8>> {
    let kind = frame.get(12..14)?;
    let mut answer = frame.to_vec();
    answer.copy_within(6..12, 0);
    answer[6..12].copy_from_slice(&MAC);
    match kind {
        // ARP, who has an address: the neighbour, whatever it is (RFC 826).
        [8, 6] if frame.get(20..22)? == [0, 1] => {
            let asked = frame.get(38..42)?;
            answer[21] = 2;
            answer.copy_within(22..32, 32);
            answer[22..28].copy_from_slice(&MAC);
            answer[28..32].copy_from_slice(asked);
            Some(answer)
        }
        // An echo request over IPv4 without options: the sum of an exchange stays, that of another type does not.
        [8, 0] if frame.get(23)? == &1 && frame.get(34)? == &8 => {
            answer[26..30].copy_from_slice(&frame[30..34]);
            answer[30..34].copy_from_slice(&frame[26..30]);
            answer[34] = 0;
            let sum = u32::from(u16::from_be_bytes([*frame.get(36)?, *frame.get(37)?])) + 0x0800;
            let [_, carry, high, low] = sum.to_be_bytes();
            let sum = u16::from_be_bytes([high, low]) + u16::from(carry);
            answer[36..38].copy_from_slice(&sum.to_be_bytes());
            Some(answer)
        }
        _ => None,
    }
}

struct Neighbour {
    memory: GuestMemoryAtomic<GuestMemoryMmap>,
    event_idx: bool,
}

impl Neighbour {
    /// Answers all frames that there are; those for whose answer there is no room are lost.
    fn turn(&self, vrings: &[VringMutex]) -> Result<(), Box<dyn std::error::Error>> {
        let memory = self.memory.memory();
        let (mut from, mut to) = (vrings[SEND].get_mut(), vrings[RECEIVE].get_mut());
        if !(from.get_queue().ready() && to.get_queue().ready()) {
            return Ok(());
        }
        loop {
            let frame = from.get_queue_mut().iter(memory.clone())?.next();
            let Some(frame) = frame else {
                // A frame that came in between rings no bell.
                if self.event_idx && from.enable_notification()? {
                    continue;
                }
                break;
            };
            let head = frame.head_index();
            let mut bytes = Vec::new();
            for piece in frame {
                let mut part = vec![0; piece.len() as usize];
                memory.read_slice(&mut part, piece.addr())?;
                bytes.extend(part);
            }
            from.add_used(head, 0)?;
            let Some(answer) = bytes.get(HEADER..).and_then(reflect) else {
                continue;
            };
            bytes.splice(HEADER.., answer);
            let room = to.get_queue_mut().iter(memory.clone())?.next();
            let Some(room) = room else { continue };
            let head = room.head_index();
            let mut left = &bytes[..];
            for piece in room {
                let (now, rest) = left.split_at(left.len().min(piece.len() as usize));
                memory.write_slice(now, piece.addr())?;
                left = rest;
            }
            let written = u32::try_from(bytes.len() - left.len()).unwrap_or(0);
            to.add_used(head, written)?;
        }
        for ring in [&mut from, &mut to] {
            if ring.needs_notification()? {
                ring.signal_used_queue()?;
            }
        }
        Ok(())
    }
}

impl VhostUserBackendMut for Neighbour {
    type Bitmap = ();
    type Vring = VringMutex;

    fn num_queues(&self) -> usize {
        2
    }

    fn max_queue_size(&self) -> usize {
        256
    }

    fn features(&self) -> u64 {
        FEATURES
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::MQ | VhostUserProtocolFeatures::REPLY_ACK
    }

    fn set_event_idx(&mut self, enabled: bool) {
        self.event_idx = enabled;
    }

    fn update_memory(&mut self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        self.memory = memory;
        Ok(())
    }

    /// Without it the worker outlives the daemon.
    fn exit_event(&self, _: usize) -> Option<(EventConsumer, EventNotifier)> {
        event::new_event_consumer_and_notifier(EventFlag::NONBLOCK).ok()
    }

    fn handle_event(&mut self, _: u16, _: EventSet, vrings: &[VringMutex], _: usize) -> io::Result<()> {
        self.turn(vrings)
            .map_err(|error| io::Error::other(error.to_string()))
    }
}

/// A daemon that has one connection.
pub(super) struct Reflector {
    end: mpsc::Receiver<ShutdownHandle>,
    thread: JoinHandle<Result<(), vhost_user_backend::Error>>,
}

impl Reflector {
    /// Waits for a connection at `path`.
    pub(super) fn start(path: &Path) -> harness::Result<Reflector> {
        let memory = || GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let listener = Listener::new(path, true);
        let mut listener = listener.map_err(|error| harness::Error::Connection(error.to_string()))?;
        let neighbour = Neighbour {
            memory: memory(),
            event_idx: false,
        };
        let (told, end) = mpsc::channel();
        let thread = thread::spawn(move || -> Result<(), vhost_user_backend::Error> {
            let neighbour = Arc::new(Mutex::new(neighbour));
            let mut daemon = VhostUserDaemon::new("reflector".into(), neighbour, memory())?;
            daemon.start(&mut listener)?;
            if let Some(end) = daemon.shutdown_handle() {
                // Whoever started us may be gone.
                let _ = told.send(end);
            }
            daemon.wait()
        });
        Ok(Reflector { end, thread })
    }

    /// Ends the connection, and the daemon with it.
    pub(super) fn die(self) -> harness::Result<()> {
        let gone = |error: &dyn std::fmt::Display| harness::Error::Connection(format!("reflector: {error}"));
        self.end.recv().map_err(|error| gone(&error))?.shutdown();
        let ended = self
            .thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        ended.map_err(|error| gone(&error))
    }
}

#[test]
fn answers_who_asks() {
    let ours = [2, 0, 0, 0, 0, 9];
    let arp = [
        &[0xff; 6][..],
        &ours,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &ours,
        &[10, 9, 0, 2, 0, 0, 0, 0, 0, 0, 10, 9, 0, 1],
    ];
    let answer = reflect(&arp.concat()).unwrap();
    let expected = [
        &ours[..],
        &MAC,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2],
        &MAC,
        &[10, 9, 0, 1],
        &ours,
        &[10, 9, 0, 2],
    ];
    assert_eq!(answer, expected.concat());

    let ping = [
        &MAC[..],
        &ours,
        &[8, 0, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0],
        &[10, 9, 0, 2, 10, 9, 0, 1],
        // Type 8, and the sum of all that follows: 0xffff - 0x0800 - 0x1234.
        &[8, 0, 0xe5, 0xcb, 0x12, 0x34, 0, 0],
    ];
    let answer = reflect(&ping.concat()).unwrap();
    assert_eq!(answer[26..34], [10, 9, 0, 1, 10, 9, 0, 2]);
    assert_eq!(answer[34..], [0, 0, 0xed, 0xcb, 0x12, 0x34, 0, 0]);
    for len in 0..answer.len() {
        assert!(reflect(&ping.concat()[..len]).is_none_or(|answer| answer.len() == len));
    }
    assert_eq!(reflect(&[0; 60]), None);
}
