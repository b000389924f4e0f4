//! What a daemon does that serves a device (vhost-user): answers of any kind, in any order, with descriptors and without.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use memory::backend::BackendKind;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};
use vmm_sys_util::sock_ctrl_msg::ScmSocket;

use super::super::open_ram;
use super::{Bytes, RAM_MIB, RINGS};
use crate::virtio::outside::{Outside, OutsideRing};
use crate::virtio::vhost_user::{Dial, Introduced, Kind, VhostUserSpec};
use crate::virtio::{F_EVENT_IDX, F_VERSION_1, VirtioDevice};

const GET_FEATURES: u32 = 1;
const GET_VRING_BASE: u32 = 11;
const GET_PROTOCOL_FEATURES: u32 = 15;
const GET_QUEUE_NUM: u32 = 17;
const SET_BACKEND_REQ_FD: u32 = 21;
const GET_CONFIG: u32 = 24;
const GET_INFLIGHT_FD: u32 = 31;
const GET_MAX_MEM_SLOTS: u32 = 36;
const NEED_REPLY: u32 = 8;
/// VHOST_USER_F_PROTOCOL_FEATURES.
const PROTOCOL_FEATURES: u64 = 1 << 30;
/// MQ, REPLY_ACK, BACKEND_REQ, CONFIG, INFLIGHT_SHMFD, CONFIGURE_MEM_SLOTS.
const PROTOCOL: u64 = 1 | 1 << 3 | 1 << 5 | 1 << 9 | 1 << 12 | 1 << 15;

/// Steps of the driver, and connections; and what one call may take. Nobody here is silent, so no clock runs out.
const STEPS: usize = 24;
const CONNECTIONS: usize = 4;
const SOON: Duration = Duration::from_secs(4);

/// What daemons do, one after the other.
#[derive(Clone, Debug)]
struct Daemons {
    scripts: Arc<Mutex<Vec<Vec<u8>>>>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Dial for Daemons {
    fn dial(&self) -> io::Result<UnixStream> {
        let script = self.scripts.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let script = script.ok_or(io::ErrorKind::ConnectionRefused)?;
        let (ours, theirs) = UnixStream::pair()?;
        let thread = thread::spawn(move || serve(&theirs, &script));
        self.threads.lock().unwrap().push(thread);
        Ok(ours)
    }
}

/// Answers as `script` says, and as it should be when that is used up.
fn serve(stream: &UnixStream, script: &[u8]) {
    let mut script = Bytes(script);
    let mut channel = None;
    while answer(stream, &mut script, &mut channel).is_some() {}
    // Who waits for more gets the end of it.
    let _ = stream.shutdown(Shutdown::Both);
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Takes one request; `None` at the end.
fn answer(mut stream: &UnixStream, script: &mut Bytes<'_>, channel: &mut Option<File>) -> Option<()> {
    let mut header = [0; 12];
    let (len, file) = stream.recv_with_fd(&mut header).ok()?;
    if len != header.len() {
        return None;
    }
    let (request, flags, size) = (word(&header, 0), word(&header, 4), word(&header, 8));
    let mut payload = vec![0; size as usize];
    stream.read_exact(&mut payload).ok()?;
    if request == SET_BACKEND_REQ_FD {
        *channel = file;
    }
    let number = |value: u64| Some(value.to_le_bytes().to_vec());
    let right = match request {
        GET_FEATURES => number(PROTOCOL_FEATURES | F_VERSION_1 | F_EVENT_IDX | 0x7e46),
        GET_PROTOCOL_FEATURES => number(PROTOCOL),
        GET_QUEUE_NUM => number(2),
        GET_MAX_MEM_SLOTS => number(32),
        GET_VRING_BASE | GET_CONFIG | GET_INFLIGHT_FD => Some(payload),
        _ if flags & NEED_REPLY != 0 => number(0),
        _ => None,
    };
    let choice = script.u8();
    if choice & 8 != 0 {
        tell(channel.as_mut(), script);
    }
    let mut reply = right?;
    match choice & 3 {
        0 => {}
        1 => reply.iter_mut().for_each(|byte| *byte = script.u8()),
        2 => {
            let garbage: Vec<u8> = (0..script.u8()).map(|_| script.u8()).collect();
            let _ = stream.write_all(&garbage);
            return None;
        }
        _ => return None,
    }
    let size = u32::try_from(reply.len()).unwrap();
    let mut bytes = [request, 5, size].map(u32::to_le_bytes).concat();
    bytes.extend(reply);
    let needs_file = request == GET_INFLIGHT_FD;
    match needs_file != (choice & 4 != 0) {
        true => {
            let file = File::open("/dev/zero").unwrap();
            stream.send_with_fd(&bytes[..], file.as_raw_fd()).ok()?;
        }
        false => stream.write_all(&bytes).ok()?,
    }
    Some(())
}

/// Says something without being asked.
fn tell(channel: Option<&mut File>, script: &mut Bytes<'_>) {
    let Some(channel) = channel else { return };
    let choice = script.u8();
    let message = [2, 1 | u32::from(choice & 8), u32::from(choice & 1)].map(u32::to_le_bytes);
    let cut = if choice & 2 != 0 { 7 } else { 12 };
    for _ in 0..=(choice >> 4) {
        // The other end may be closed.
        let _ = channel.write(&message.concat()[..cut]);
    }
}

/// A driver starts and resets a device whose daemons do what `data` says: first how long each one's part is, then their
/// parts, then the driver's steps.
///
/// # Panics
/// When something takes too long, or the device changes in what has to stay.
pub fn daemon_answers(data: &[u8]) {
    let mut bytes = Bytes(data);
    let lengths: Vec<usize> = (0..CONNECTIONS).map(|_| usize::from(bytes.u8())).collect();
    let mut scripts: Vec<Vec<u8>> = lengths
        .into_iter()
        .map(|len| {
            let (part, rest) = bytes.0.split_at(len.min(bytes.0.len()));
            bytes.0 = rest;
            part.to_vec()
        })
        .collect();
    scripts.reverse();
    let daemons = Daemons {
        scripts: Arc::new(Mutex::new(scripts)),
        threads: Arc::default(),
    };
    drive(&daemons, &mut bytes);
    // All connections are closed with the device.
    let threads = std::mem::take(&mut *daemons.threads.lock().unwrap());
    for thread in threads {
        thread.join().unwrap();
    }
}

fn drive(daemons: &Daemons, bytes: &mut Bytes<'_>) {
    let spec = VhostUserSpec {
        id: "fuzzed".into(),
        kind: Kind::Blk,
        queues: 2,
        reconnect: (bytes.u8() & 1 != 0).then_some(Duration::ZERO),
    };
    let begin = Instant::now();
    let introduced = Introduced::new(spec, Box::new(daemons.clone()));
    assert!(begin.elapsed() < SOON, "an introduction took too long");
    let Ok(introduced) = introduced else { return };
    let ram = open_ram(BackendKind::memfd(None), RAM_MIB);
    let (handle, mut device) = introduced.with(ram).unwrap();
    let (description, len) = (device.description(), device.config().len());
    let mut interrupts = Vec::new();
    for _ in 0..STEPS {
        if bytes.is_empty() {
            break;
        }
        let begin = Instant::now();
        let step = bytes.u8();
        match step & 7 {
            0 | 1 => device.start(
                description.features & !u64::from(step >> 3),
                rings(&description.queue_sizes),
            ),
            2 => handle.pause(step & 8 != 0).unwrap(),
            3 => device.reset(),
            4 => device.silence(),
            _ => {}
        }
        device.handle_event();
        device.take_interrupts(&mut interrupts);
        assert!(begin.elapsed() < SOON, "step {step:#x} took too long");
        let known = |queue: &u16| usize::from(*queue) < description.queue_sizes.len();
        assert!(interrupts.drain(..).all(|queue| known(&queue)));
        assert_eq!(
            (device.description(), device.config().len()),
            (description.clone(), len)
        );
    }
}

fn rings(sizes: &[u16]) -> Vec<OutsideRing> {
    let one = |(index, base): (u16, &u64)| OutsideRing {
        index,
        size: 16,
        addresses: [*base, base + 0x200, base + 0x400],
        kick: EventFd::new(EFD_NONBLOCK).unwrap(),
        interrupt: None,
    };
    (0..).zip(&RINGS[..sizes.len().min(2)]).map(one).collect()
}

/// Starting points: daemons as they should be, and wrong ones.
pub fn daemon_seeds() -> Vec<super::Seed> {
    // Lengths of the four parts, the parts, whether to look for another daemon, and the driver's steps.
    let seed = |parts: [&[u8]; CONNECTIONS], steps: &[u8]| {
        let lengths = parts.map(|part| u8::try_from(part.len()).unwrap());
        [&lengths[..], &parts.concat(), steps].concat()
    };
    let steps = &[1, 0, 2 | 8, 2, 3, 0, 4, 3, 1, 7][..];
    let fine = [&[][..]; CONNECTIONS];
    vec![
        ("a-daemon-that-works", seed(fine, steps)),
        ("no-other-daemon", seed(fine, &[0, 0, 7, 3])),
        // Owner, features: then they are all ones.
        (
            "every-feature",
            seed(
                [&[0, 1, 255, 255, 255, 255, 255, 255, 255, 255], &[], &[], &[]],
                steps,
            ),
        ),
        ("an-answer-with-a-file", seed([&[0, 4], &[], &[], &[]], steps)),
        (
            "half-an-answer",
            seed([&[0, 2, 5, 1, 0, 0, 0, 5], &[], &[], &[]], steps),
        ),
        (
            "gone-amid-the-start",
            seed([&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3], &[0, 3], &[], &[]], steps),
        ),
        (
            "news-in-haste",
            seed(
                [&[0, 0, 0, 0, 0, 0, 0, 8, 0xf8, 8, 0x08, 8, 0x02], &[], &[], &[]],
                steps,
            ),
        ),
    ]
}
