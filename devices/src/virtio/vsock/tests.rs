use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

use memory::ram::Ram;
use tempfile::TempDir;
use vm_memory::{Bytes as _, GuestAddress};

use super::connections::MOST_RESETS;
use super::credit::BUFFER;
use super::packet::{HEADER, MOST, NO_MORE_SENT, NO_MORE_TAKEN, STREAM};
use super::*;
use crate::testing::{Descriptor, DriverQueue, anonymous_ram};
use crate::virtio::F_VERSION_1;

mod wild;

const GUEST: u64 = 5;
const PORT: u32 = 700;
const GUEST_PORT: u32 = 1024;
/// Where the driver's buffers are: one to transmit, the others to receive.
const OUT: u64 = 0x10_0000;
const IN: u64 = 0x20_0000;
/// What Linux has for each packet, about.
const PAGE: u64 = 4096;

/// Sockets in a directory.
#[derive(Debug)]
struct Sockets {
    path: PathBuf,
    listener: UnixListener,
}

impl HostSockets for Sockets {
    fn accept(&mut self) -> io::Result<UnixStream> {
        let (stream, _) = self.listener.accept()?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    fn connect(&mut self, port: u32) -> io::Result<UnixStream> {
        let stream = UnixStream::connect(self.path.with_file_name(format!("v_{port}")))?;
        // Of which the kernel makes twice as much.
        rustix::net::sockopt::set_socket_send_buffer_size(&stream, MOST)?;
        stream.set_nonblocking(true)?;
        Ok(stream)
    }

    fn waiting(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

/// A device without transport and thread, its queues served by hand, and a driver.
struct Rig<'a> {
    ram: &'a Ram,
    directory: TempDir,
    vsock: Vsock,
    drivers: [DriverQueue<'a>; 3],
    queues: [VirtQueue; 3],
    faults: Faults,
    /// Buffers that came back.
    free: Vec<u32>,
}

impl<'a> Rig<'a> {
    fn new(ram: &'a Ram) -> Rig<'a> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let drivers = [0x1000, 0x4000, 0x7000].map(|rings| DriverQueue::new(ram, rings, QUEUE_SIZE));
        let queues = [0, 1, 2].map(|index| drivers[usize::from(index)].device_side(index, F_VERSION_1));
        let spec = VsockSpec {
            id: "vsock0".into(),
            guest_cid: 5,
        };
        Rig {
            ram,
            vsock: Vsock::new(spec, Box::new(Sockets { path, listener })).unwrap(),
            directory,
            drivers,
            queues,
            faults: Faults::new(),
            free: Vec::new(),
        }
    }

    /// With buffers to receive into.
    fn ready(ram: &'a Ram) -> Rig<'a> {
        let mut rig = Rig::new(ram);
        (0..64).for_each(|index| rig.give(index, PAGE));
        rig
    }

    fn give(&mut self, index: u16, length: u64) {
        let at = IN + 2 * (MOST as u64) * u64::from(index);
        self.drivers[0].describe(index, Descriptor::writable(at, u32::try_from(length).unwrap()));
        self.drivers[0].offer(index);
    }

    /// A program of the host that serves the guest.
    fn serve_port(&self, port: u32) -> UnixListener {
        UnixListener::bind(self.directory.path().join(format!("v_{port}"))).unwrap()
    }

    fn call(&self) -> UnixStream {
        UnixStream::connect(self.directory.path().join("v")).unwrap()
    }

    fn serve(&mut self) {
        let memory = self.ram.memory();
        // As long as the device rings for itself.
        loop {
            self.vsock
                .process(memory, &mut self.queues, &self.faults)
                .unwrap();
            for queue in &mut self.queues {
                let _ = queue.finish(memory).unwrap();
            }
            if self.vsock.event.read().is_err() {
                return;
            }
        }
    }

    /// The driver sends a packet.
    fn send(&mut self, header: Header, payload: &[u8]) {
        let memory = self.ram.memory();
        memory
            .write_slice(payload, GuestAddress(OUT + HEADER as u64))
            .unwrap();
        self.try_send(header, payload.len());
        assert_eq!(self.drivers[1].take_used(), [(0, 0)]);
    }

    /// The same with whatever bytes there are, which the device may leave in its ring.
    fn try_send(&mut self, header: Header, length: usize) {
        let memory = self.ram.memory();
        let header = Header {
            len: u32::try_from(length).unwrap(),
            ..header
        };
        memory.write_slice(&header.bytes(), GuestAddress(OUT)).unwrap();
        let length = u32::try_from(HEADER + length).unwrap();
        self.drivers[1].describe(0, Descriptor::readable(OUT, length));
        self.drivers[1].offer(0);
        self.serve();
    }

    /// What the driver receives; it has the buffers back at once.
    fn received(&mut self) -> Vec<(Header, Vec<u8>)> {
        self.serve();
        let mut all = Vec::new();
        loop {
            let packets = self.take_packets();
            if packets.is_empty() {
                return all;
            }
            all.extend(packets);
            for head in std::mem::take(&mut self.free) {
                self.give(u16::try_from(head).unwrap(), PAGE);
            }
            self.serve();
        }
    }
    /// What is in the buffers that have come back; without others for them.
    fn take_packets(&mut self) -> Vec<(Header, Vec<u8>)> {
        let take = |(head, length): (u32, u32)| {
            let at = IN + 2 * (MOST as u64) * u64::from(head);
            let mut bytes = vec![0; usize::try_from(length).unwrap()];
            self.ram
                .memory()
                .read_slice(&mut bytes, GuestAddress(at))
                .unwrap();
            let payload = bytes.split_off(HEADER);
            let header = Header::parse(&bytes.try_into().unwrap());
            assert_eq!(header.len as usize, payload.len());
            assert_eq!((header.from_cid, header.to_cid), (HOST, GUEST));
            (header, payload)
        };
        let used = self.drivers[0].take_used();
        self.free.extend(used.iter().map(|(head, _)| *head));
        used.into_iter().map(take).collect()
    }

    /// What the driver receives besides news of credit.
    fn said(&mut self) -> Vec<(Op, u32)> {
        let all = self.received().into_iter();
        all.filter_map(|(header, _)| Some((header.op?, header.flags)))
            .filter(|(op, _)| *op != Op::CreditUpdate)
            .collect()
    }

    /// A connection that a program of the guest has made.
    fn connected(&mut self) -> UnixStream {
        let server = self.serve_port(PORT);
        self.send(packet(Op::Request), b"");
        let (stream, _) = server.accept().unwrap();
        assert_eq!(self.said(), [(Op::Response, 0)]);
        stream.set_nonblocking(true).unwrap();
        stream
    }

    /// The guest sends more than the program's socket takes, which leaves some with the device, and closes.
    fn send_and_close(&mut self) -> Vec<u8> {
        let bytes = pattern(3, 3 * MOST);
        for part in bytes.chunks(MOST / 2) {
            self.send(packet(Op::Bytes), part);
        }
        let close = Header {
            flags: NO_MORE_SENT | NO_MORE_TAKEN,
            ..packet(Op::Shutdown)
        };
        self.send(close, b"");
        bytes
    }

    /// The program gets these bytes, and then finds the end.
    fn delivers(&mut self, program: &mut UnixStream, bytes: &[u8]) {
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            let part = take_all(program);
            assert!(!part.is_empty(), "the rest after {} is lost", got.len());
            got.extend(part);
            self.serve();
        }
        assert!(got == bytes);
        assert_eq!(program.read(&mut [0]).unwrap(), 0);
    }

    fn bad_packets(&self) -> u64 {
        self.faults.get("vsock-packet").unwrap()
    }
}

/// A packet of the guest's with much room.
fn packet(op: Op) -> Header {
    Header {
        from_cid: GUEST,
        to_cid: HOST,
        from_port: GUEST_PORT,
        to_port: PORT,
        len: 0,
        kind: STREAM,
        op: Some(op),
        flags: 0,
        room: 1 << 20,
        forwarded: 0,
    }
}

fn pattern(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn take_all(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
    }
    bytes
}

#[test]
fn a_mebibyte_goes_each_way_unchanged() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::ready(&ram);
    let mut program = rig.connected();
    let (out, back) = (pattern(1, 1 << 20), pattern(2, 1 << 20));
    let (mut arrived, mut heard, mut given) = (Vec::new(), Vec::new(), 0);
    // What the device says that it has room for, and how much of ours has left it.
    let (mut room, mut forwarded) = (BUFFER as usize, 0);
    let mut sent = 0;
    while arrived.len() < out.len() || heard.len() < back.len() {
        let part = (out.len() - sent).min(room - (sent - forwarded)).min(MOST);
        if part > 0 {
            // The guest reads all at once.
            let header = Header {
                room: 100_000,
                forwarded: u32::try_from(heard.len()).unwrap(),
                ..packet(Op::Bytes)
            };
            rig.send(header, &out[sent..sent + part]);
            sent += part;
        } else {
            let header = Header {
                room: 100_000,
                forwarded: u32::try_from(heard.len()).unwrap(),
                ..packet(Op::CreditUpdate)
            };
            rig.send(header, b"");
        }
        if given < back.len() {
            match program.write(&back[given..]) {
                Ok(count) => given += count,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        arrived.extend(take_all(&mut program));
        for (header, payload) in rig.received() {
            (room, forwarded) = (header.room as usize, header.forwarded as usize);
            heard.extend(payload);
        }
    }
    assert!(arrived == out, "the host got something else");
    assert!(heard == back, "the guest got something else");
    assert_eq!(rig.bad_packets(), 0);
}

#[test]
fn programs_of_the_host_call_by_port() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::ready(&ram);
    let mut program = rig.call();
    program.write_all(b"CONN").unwrap();
    assert_eq!(rig.said(), []);
    program.write_all(b"ECT 1024\nhello").unwrap();
    let request = rig.received()[0].0;
    assert_eq!((request.op, request.to_port), (Some(Op::Request), GUEST_PORT));
    assert!(request.room > 0);
    let answer = Header {
        to_port: request.from_port,
        ..packet(Op::Response)
    };
    rig.send(answer, b"");
    let first = &rig.received()[0];
    assert_eq!((first.0.op, &first.1[..]), (Some(Op::Bytes), &b"hello"[..]));
    let words = format!("OK {}\n", request.from_port);
    let mut said = vec![0; words.len()];
    program.read_exact(&mut said).unwrap();
    assert_eq!(String::from_utf8(said).unwrap(), words);
    // The answer is ours, so that it takes none of the guest's credit.
    rig.send(
        Header {
            op: Some(Op::CreditRequest),
            ..answer
        },
        b"",
    );
    let credit = &rig.received()[0].0;
    assert_eq!((credit.op, credit.forwarded), (Some(Op::CreditUpdate), 0));
}

#[test]
fn callers_that_nobody_wants_are_hung_up_on() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::ready(&ram);
    // Refused by the guest.
    let mut program = rig.call();
    program.write_all(b"connect 9\n").unwrap();
    let request = rig.received()[0].0;
    let refusal = Header {
        from_port: 9,
        to_port: request.from_port,
        ..packet(Op::Reset)
    };
    rig.send(refusal, b"");
    assert_eq!(program.read(&mut [0; 9]).unwrap(), 0);
    // Without manners.
    for words in ["GET / HTTP/1.1\n", "CONNECT 4294967295\n", &"x".repeat(300)] {
        let mut program = rig.call();
        program.write_all(words.as_bytes()).unwrap();
        assert_eq!(rig.said(), [], "{words:?}");
        // Bytes that nobody read make it a reset.
        let ended = program.read(&mut [0; 9]);
        assert!(ended.is_err() || ended.is_ok_and(|count| count == 0), "{words:?}");
    }
    // One that is gone before it is asked for, and one that goes while the guest thinks.
    drop(rig.call());
    let mut program = rig.call();
    program.write_all(b"CONNECT 9\n").unwrap();
    assert_eq!(rig.said(), [(Op::Request, 0)]);
    drop(program);
    assert_eq!(rig.said(), [(Op::Reset, 0)]);
    assert_eq!(rig.bad_packets(), 0);
}

#[test]
fn the_guest_gets_no_more_than_it_has_room_for() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::ready(&ram);
    let mut program = rig.connected();
    let room = |room, forwarded| Header {
        room,
        forwarded,
        ..packet(Op::CreditUpdate)
    };
    rig.send(room(100, 0), b"");
    program.write_all(&[7; 250]).unwrap();
    let got = |rig: &mut Rig<'_>| -> Vec<(Option<Op>, usize)> {
        let all = rig.received().into_iter();
        all.map(|(header, payload)| (header.op, payload.len())).collect()
    };
    // It is asked for more once.
    assert_eq!(
        got(&mut rig),
        [(Some(Op::Bytes), 100), (Some(Op::CreditRequest), 0)]
    );
    program.write_all(&[7; 10]).unwrap();
    assert_eq!(got(&mut rig), []);
    rig.send(room(100, 30), b"");
    assert_eq!(
        got(&mut rig),
        [(Some(Op::Bytes), 30), (Some(Op::CreditRequest), 0)]
    );
    rig.send(room(1000, 130), b"");
    assert_eq!(got(&mut rig), [(Some(Op::Bytes), 130)]);
}

#[test]
fn a_guest_that_sends_more_than_it_may_is_cut_off() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::ready(&ram);
    let program = rig.connected();
    let mut sent = 0;
    while rig.bad_packets() == 0 {
        assert!(sent < 10 << 20, "a program that does not read takes 10 MiB");
        rig.send(packet(Op::Bytes), &[1; MOST]);
        sent += MOST;
    }
    assert!(sent > BUFFER as usize, "its buffer, and the socket's");
    assert_eq!(rig.said(), [(Op::Reset, 0)]);
    rig.send(packet(Op::Bytes), b"x");
    assert_eq!(rig.said(), [(Op::Reset, 0)]);
    drop(program);
}

#[test]
fn each_end_may_stop_sending_alone() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::ready(&ram);
    let mut program = rig.connected();
    rig.send(packet(Op::Bytes), b"question");
    let shutdown = |flags| Header {
        flags,
        ..packet(Op::Shutdown)
    };
    rig.send(shutdown(NO_MORE_SENT), b"");
    let mut words = String::new();
    program.set_nonblocking(false).unwrap();
    program.read_to_string(&mut words).unwrap();
    assert_eq!(words, "question");
    program.write_all(b"answer").unwrap();
    program.shutdown(Shutdown::Write).unwrap();
    let all = rig.received();
    assert_eq!((all[0].0.op, &all[0].1[..]), (Some(Op::Bytes), &b"answer"[..]));
    assert_eq!(all[1].0.op, Some(Op::Shutdown));
    assert_ne!(all[1].0.flags & NO_MORE_SENT, 0);
    // It closes, and is told that this is all.
    rig.send(shutdown(NO_MORE_SENT | NO_MORE_TAKEN), b"");
    assert_eq!(rig.said().last(), Some(&(Op::Reset, 0)));
    assert_eq!(rig.vsock.next_timer(), None);
    assert_eq!(rig.bad_packets(), 0);
}

#[test]
fn a_program_that_ends_is_read_to_its_last_word() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::ready(&ram);
    let mut program = rig.connected();
    program.write_all(b"last").unwrap();
    drop(program);
    let all = rig.received();
    assert_eq!(all[0].1, b"last");
    let ended: Vec<_> = all[1..]
        .iter()
        .map(|(header, _)| (header.op, header.flags))
        .collect();
    assert_eq!(ended, [(Some(Op::Shutdown), NO_MORE_SENT | NO_MORE_TAKEN)]);
    assert!(rig.vsock.next_timer().is_some(), "the guest has to end it");
    rig.send(packet(Op::Reset), b"");
    assert_eq!((rig.vsock.next_timer(), rig.said()), (None, vec![]));
}

#[test]
fn a_guest_that_closes_has_its_bytes_delivered_first() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::ready(&ram);
    let mut program = rig.connected();
    let bytes = rig.send_and_close();
    rig.delivers(&mut program, &bytes);
    assert_eq!(rig.said(), [(Op::Reset, 0)]);
}

#[test]
fn a_guest_that_does_not_wait_has_its_bytes_delivered_too() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::ready(&ram);
    let mut program = rig.connected();
    let bytes = rig.send_and_close();
    assert!(rig.vsock.next_timer().is_some());
    rig.send(packet(Op::Reset), b"");
    // However long the program takes.
    assert_eq!(rig.vsock.next_timer(), None);
    // Somebody else with the same port has to wait, and changes nothing.
    for op in [Op::Request, Op::Bytes, Op::Reset] {
        rig.send(packet(op), b"");
    }
    assert_eq!(rig.said(), [(Op::Reset, 0); 2]);
    rig.delivers(&mut program, &bytes);
    assert_eq!(rig.said(), []);
    // And is served then.
    let _ = std::fs::remove_file(rig.directory.path().join(format!("v_{PORT}")));
    rig.connected();
}

#[test]
fn what_nobody_is_there_for_is_reset() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::ready(&ram);
    let wrong = [
        packet(Op::Request),
        packet(Op::Bytes),
        packet(Op::Shutdown),
        packet(Op::Response),
        Header {
            op: None,
            ..packet(Op::Bytes)
        },
        Header {
            kind: 2,
            ..packet(Op::Request)
        },
        Header {
            to_cid: 77,
            ..packet(Op::Request)
        },
        Header {
            to_port: u32::MAX,
            ..packet(Op::Request)
        },
    ];
    let server = rig.serve_port(u32::MAX);
    for header in wrong {
        rig.send(header, b"");
        // From where it was sent to.
        let used = rig.drivers[0].take_used();
        assert_eq!(used.len(), 1, "{header:?}");
        let mut bytes = [0; HEADER];
        let at = IN + 2 * (MOST as u64) * u64::from(used[0].0);
        rig.ram.memory().read_slice(&mut bytes, GuestAddress(at)).unwrap();
        let reset = Header::parse(&bytes);
        assert_eq!(reset.op, Some(Op::Reset));
        assert_eq!(
            (
                reset.from_cid,
                reset.from_port,
                reset.to_cid,
                reset.to_port,
                reset.kind
            ),
            (header.to_cid, header.to_port, GUEST, GUEST_PORT, header.kind)
        );
        rig.give(u16::try_from(used[0].0).unwrap(), PAGE);
    }
    rig.send(packet(Op::Reset), b"");
    assert_eq!(rig.said(), [], "a reset has no answer");
    rig.send(
        Header {
            from_cid: 6,
            ..packet(Op::Request)
        },
        b"",
    );
    assert_eq!((rig.said(), rig.bad_packets()), (vec![], 1));
    drop(server);
}

#[test]
fn packets_may_be_in_any_number_of_pieces() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::new(&ram);
    // Room for a header and 2000 bytes, the header in three pieces.
    for chain in 0..20_u16 {
        let at = IN + 2 * (MOST as u64) * u64::from(chain);
        let first = chain * 4;
        let pieces = [(0, 10), (10, 30), (40, 1000), (1040, 1004)];
        for (index, (offset, length)) in (first..).zip(pieces) {
            let piece = Descriptor::writable(at + offset, length);
            let piece = if index == first + 3 {
                piece
            } else {
                piece.then(index + 1)
            };
            rig.drivers[0].describe(index, piece);
        }
        rig.drivers[0].offer(first);
    }
    let server = rig.serve_port(PORT);
    rig.send(packet(Op::Request), b"");
    let (mut program, _) = server.accept().unwrap();
    let bytes = pattern(4, 10_000);
    program.write_all(&bytes).unwrap();
    rig.serve();
    let mut got = Vec::new();
    for (head, length) in rig.drivers[0].take_used() {
        let mut packet = vec![0; length as usize];
        let at = IN + 2 * (MOST as u64) * u64::from(head / 4);
        rig.ram
            .memory()
            .read_slice(&mut packet, GuestAddress(at))
            .unwrap();
        got.extend(packet.split_off(HEADER));
    }
    assert!(got == bytes, "{} bytes", got.len());

    // As Linux sends what is longer than 32 KiB.
    let memory = rig.ram.memory();
    let header = Header {
        len: 10_000,
        ..packet(Op::Bytes)
    };
    memory.write_slice(&header.bytes(), GuestAddress(OUT)).unwrap();
    memory.write_slice(&bytes, GuestAddress(OUT + 0x1000)).unwrap();
    let pieces = [(OUT, 44), (OUT + 0x1000, 4096), (OUT + 0x2000, 5904)];
    for (index, (at, length)) in (0..).zip(pieces) {
        let piece = Descriptor::readable(at, length);
        rig.drivers[1].describe(index, if index == 2 { piece } else { piece.then(index + 1) });
    }
    rig.drivers[1].offer(0);
    rig.serve();
    program.set_nonblocking(true).unwrap();
    assert!(take_all(&mut program) == bytes);
    assert_eq!(rig.faults.get("virtio-chain"), Some(0));
}

#[test]
fn chains_that_no_driver_sends_come_back_and_are_counted() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::new(&ram);
    let long = Header {
        len: u32::try_from(MOST).unwrap() + 1,
        ..packet(Op::Bytes)
    };
    let memory = rig.ram.memory();
    memory.write_slice(&long.bytes(), GuestAddress(OUT)).unwrap();
    let missing = Header {
        len: 9,
        ..packet(Op::Bytes)
    };
    memory
        .write_slice(&missing.bytes(), GuestAddress(OUT + PAGE))
        .unwrap();
    let chains = [
        Descriptor::readable(OUT, 1 << 20),
        Descriptor::readable(OUT + PAGE, 44 + 8),
        Descriptor::readable(OUT, 43),
        Descriptor::writable(OUT, 4096),
        Descriptor::readable(u64::MAX - 10, 100),
    ];
    for (index, chain) in (0..).zip(chains) {
        rig.drivers[1].describe(index, chain);
        rig.drivers[1].offer(index);
    }
    rig.serve();
    assert_eq!(rig.drivers[1].take_used().len(), 5);
    assert_eq!(rig.faults.get("virtio-chain"), Some(5));
    for (index, chain) in (0..).zip([
        Descriptor::readable(IN, 4096),
        Descriptor::writable(IN, 43),
        Descriptor::writable(1 << 50, 4096),
        Descriptor::writable(IN, 44),
    ]) {
        rig.drivers[0].describe(index, chain);
        rig.drivers[0].offer(index);
    }
    rig.send(packet(Op::Bytes), b"");
    let used = rig.drivers[0].take_used();
    assert_eq!(used, [(0, 0), (1, 0), (2, 0), (3, 44)], "the last one fits");
    assert_eq!(rig.faults.get("virtio-chain"), Some(8));
}

#[test]
fn a_guest_that_takes_no_answers_is_not_listened_to() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::new(&ram);
    let memory = rig.ram.memory();
    memory
        .write_slice(&packet(Op::Bytes).bytes(), GuestAddress(OUT))
        .unwrap();
    rig.drivers[1].describe(0, Descriptor::readable(OUT, 44));
    let mut taken = 0;
    for _ in 0..4 {
        (0..200).for_each(|_| rig.drivers[1].offer(0));
        rig.serve();
        taken += rig.drivers[1].take_used().len();
        if taken % 200 != 0 {
            break;
        }
    }
    // One waits for a buffer already.
    assert_eq!(taken, MOST_RESETS + 1);
    (0..64).for_each(|index| rig.give(index, PAGE));
    assert_eq!(rig.said().len(), 400);
    assert_eq!(rig.drivers[1].take_used().len(), 400 - taken);
}

#[test]
fn a_reset_closes_everything() {
    let ram = anonymous_ram(64);
    let mut rig = Rig::ready(&ram);
    let mut program = rig.connected();
    let mut caller = rig.call();
    caller.write_all(b"CON").unwrap();
    rig.serve();
    rig.vsock.reset();
    assert_eq!(program.read(&mut [0]).unwrap(), 0);
    assert_eq!(caller.read(&mut [0]).unwrap(), 0);
    assert_eq!(rig.vsock.next_timer(), None);
    // Who calls meanwhile waits for the next driver.
    let mut caller = rig.call();
    caller.write_all(b"CONNECT 3\n").unwrap();
    assert_eq!(rig.said(), [(Op::Request, 0)]);
}
