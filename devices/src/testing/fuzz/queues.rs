//! Devices whose drivers fill their queues with anything at all.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use memory::ram::Ram;
use memory::transfer::MAX_SENT_PIECES;
use vm_memory::{Bytes as _, GuestAddress};

use crate::disk::{DiskImage, Piece, RawImage, SECTOR};
use crate::fault::Faults;
use crate::net::{HEADER, MAX_FRAME, Network, Offloads};
use crate::testing::{Descriptor, DriverQueue};
use crate::typed::{InputLine, MOST_TYPED};
use crate::virtio::blk::{Blk, BlkSpec};
use crate::virtio::console::Console;
use crate::virtio::net::features::{Mac, OPTIONAL};
use crate::virtio::net::{Net, NetSpec};
use crate::virtio::queue::VirtQueue;
use crate::virtio::rng::{Rng, RngSpec};
use crate::virtio::{F_EVENT_IDX, F_VERSION_1, VirtioDevice};

use super::{Bytes, empty_ram};

mod programs;

/// Descriptors of a queue, and where its rings are.
const SIZE: u16 = 16;
const RINGS: u64 = 0x1000;
/// Another queue's, and its buffer.
const ANSWERS: u64 = 0x40_0000;
const ANSWERS_TO: u64 = 0x41_0000;
/// Where buffers are, mostly.
const BUFFERS: u64 = 0x1_0000;
/// Of a descriptor: its buffer is a table of descriptors (`VIRTQ_DESC_F_INDIRECT`).
const INDIRECT: u16 = 4;

/// Lets a driver describe and offer what it likes to a device of the first byte's choice: `data` is a list of operations
/// (describe, offer, jump, write into buffers, serve, let time pass, reset).
///
/// Asserts that no call returns more chains than were kept and offered, that no chain gets more bytes than its device gives one,
/// and that a device that waits names a time for it.
pub fn device_queues(data: &[u8]) {
    let mut bytes = Bytes(data);
    let ram = empty_ram();
    let choice = bytes.u8();
    let (mut device, most) = match choice & 0x18 {
        _ if choice & 0x40 != 0 => programs::vsock(choice),
        _ if choice & 0x20 != 0 => console(choice),
        0 => rng(choice),
        0x10 => net(choice),
        _ => blk(choice),
    };
    let mut driver = DriverQueue::new(&ram, RINGS, SIZE);
    let faults = Faults::new();
    // What a socket device has to answer goes there.
    let mut answers = DriverQueue::new(&ram, ANSWERS, SIZE);
    for index in 0..SIZE {
        answers.describe(index, Descriptor::writable(ANSWERS_TO, 100));
        answers.offer(index);
    }
    let mut queues = start(device.as_mut(), [&driver, &answers], choice);
    let mut broken = false;
    // A buffer may lie in the rings, or be in an indirect table that lies anywhere: then the device writes over what it said.
    let mut aliased = false;
    while !bytes.is_empty() {
        let operation = bytes.u8();
        match operation {
            0..0x40 => {
                let index = bytes.u16() % SIZE;
                let near = operation < 0x30;
                let address = if near {
                    BUFFERS + u64::from(bytes.u16())
                } else {
                    bytes.u64()
                };
                let length = if near { u32::from(bytes.u16()) } else { bytes.u32() };
                let (flags, next) = (u16::from(operation & 7), bytes.u16() % (SIZE + 2));
                let end = address.saturating_add(u64::from(length));
                aliased |= flags & INDIRECT != 0 || (address < BUFFERS && end > RINGS);
                let descriptor = Descriptor {
                    address,
                    length,
                    flags,
                    next,
                };
                driver.describe(index, descriptor);
            }
            0x40..0x70 => driver.offer(bytes.u16() % (SIZE + 1)),
            0x70..0x78 => driver.set_available(bytes.u16()),
            0x78..0xa0 => {
                let at = GuestAddress(BUFFERS + u64::from(bytes.u16()));
                ram.memory().write_obj(bytes.u64(), at).unwrap();
            }
            0xa0..0xa8 => {
                device.reset();
                driver = DriverQueue::new(&ram, RINGS, SIZE);
                queues = start(device.as_mut(), [&driver, &answers], bytes.u8());
                broken = false;
            }
            0xa8..0xb0 => {
                let _ = device.event().read();
                device.handle_event();
            }
            _ if broken => {}
            _ => {
                broken = serve(device.as_mut(), &ram, &mut queues, &faults).is_err();
                let used = driver.take_used();
                // A driver may offer chains again that the device still has, for a frame that needs more than one.
                assert!(
                    aliased || used.len() <= 2 * usize::from(SIZE),
                    "more chains returned than there can be"
                );
                assert!(
                    aliased || used.iter().all(|(_, length)| *length <= most),
                    "too many bytes for one chain"
                );
            }
        }
    }
}

/// An entropy device as a byte wants it, and the most bytes that it gives one buffer.
fn rng(choice: u8) -> (Box<dyn VirtioDevice>, u32) {
    let spec = RngSpec {
        id: "fuzz".into(),
        max_bytes: (choice & 1 != 0).then_some(300),
        period: Duration::from_millis(1),
    };
    let source = Counting(choice & 2 != 0, 0);
    (Box::new(Rng::new(spec, Box::new(source)).unwrap()), 256)
}

/// A console with as much input as waits for one, and the most bytes that it gives a chain.
fn console(choice: u8) -> (Box<dyn VirtioDevice>, u32) {
    let outlet = Counting(choice & 2 != 0, 0);
    let (handle, console) = Console::new("fuzz".into(), Box::new(outlet)).unwrap();
    let typed = handle.input(&[b'x'; MOST_TYPED + 1]);
    (Box::new(console), u32::try_from(typed).unwrap())
}

/// A network card, and the most bytes that it writes into a buffer.
fn net(choice: u8) -> (Box<dyn VirtioDevice>, u32) {
    let spec = NetSpec {
        id: "fuzz".into(),
        mac: Mac::new([2, 0, 0, 0, 0, 1]).unwrap(),
        features: if choice & 2 == 0 { OPTIONAL } else { 0 },
        mtu: None,
    };
    let network = Weather {
        count: 0,
        bell: rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap(),
    };
    let most = u32::try_from(HEADER + MAX_FRAME).unwrap();
    (Box::new(Net::new(spec, Box::new(network)).unwrap()), most)
}

/// A network with frames of any length and kind, or none, or an error; it takes frames that are some.
#[derive(Debug)]
struct Weather {
    count: usize,
    /// Never readable.
    bell: OwnedFd,
}

impl Network for Weather {
    fn receive(&mut self, frame: &mut [u8]) -> io::Result<usize> {
        self.count += 1;
        let length = match self.count % 8 {
            0 => return Err(ErrorKind::WouldBlock.into()),
            1 if self.count.is_multiple_of(5) => return Err(ErrorKind::NotConnected.into()),
            2 => frame.len(),
            3 => self.count % 30,
            _ => 60 + self.count * 97 % 3000,
        };
        let byte = u8::try_from(self.count % 256).unwrap();
        frame[..length].fill(byte);
        if length > 1 && !self.count.is_multiple_of(3) {
            (frame[0], frame[1]) = (byte & 3, 0);
        }
        Ok(length)
    }

    fn send(&mut self, frame: &[Piece<'_>]) -> io::Result<()> {
        let length: usize = frame.iter().map(Piece::len).sum();
        assert!((HEADER + 14..=HEADER + MAX_FRAME).contains(&length), "no frame");
        assert!(frame.len() <= MAX_SENT_PIECES, "too many pieces");
        match length % 3 {
            0 => Err(ErrorKind::InvalidInput.into()),
            1 => Err(ErrorKind::WouldBlock.into()),
            _ => Ok(()),
        }
    }

    fn set_offloads(&mut self, _: Offloads) -> io::Result<()> {
        Ok(())
    }

    fn readable(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// Sectors of a disk.
const SECTORS: u64 = 64;

/// A disk as a byte wants it, and the most bytes that it writes into a request: all of an image and the status.
fn blk(choice: u8) -> (Box<dyn VirtioDevice>, u32) {
    thread_local! {
        static FILE: File = {
            let file = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
            File::from(file)
        };
    }
    let file = FILE.with(|file| file.try_clone().unwrap());
    file.set_len(SECTORS * SECTOR).unwrap();
    let spec = BlkSpec {
        id: "fuzz".into(),
        serial: "fuzz".into(),
        queues: 1,
        read_only: choice & 1 != 0,
        discard: choice & 2 == 0,
    };
    let image = Bounded(RawImage::new(file, SECTORS * SECTOR));
    let (_, blk) = Blk::new(spec, Box::new(image)).unwrap();
    (Box::new(blk), u32::try_from(SECTORS * SECTOR + 1).unwrap())
}

/// An image that is asked for nothing that it has not.
#[derive(Debug)]
struct Bounded(RawImage);

impl Bounded {
    fn check(&self, offset: u64, len: u64) {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.0.size()),
            "beyond the end"
        );
        assert!(
            offset.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR),
            "a piece of a sector"
        );
    }

    fn check_pieces(&self, offset: u64, pieces: &[Piece<'_>]) {
        self.check(offset, pieces.iter().map(|piece| piece.len() as u64).sum());
    }
}

impl DiskImage for Bounded {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn read(&mut self, offset: u64, pieces: &[Piece<'_>]) -> io::Result<()> {
        self.check_pieces(offset, pieces);
        self.0.read(offset, pieces)
    }

    fn write(&mut self, offset: u64, pieces: &[Piece<'_>]) -> io::Result<()> {
        self.check_pieces(offset, pieces);
        self.0.write(offset, pieces)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn discard(&mut self, offset: u64, len: u64) -> io::Result<()> {
        self.check(offset, len);
        self.0.discard(offset, len)
    }

    fn write_zeroes(&mut self, offset: u64, len: u64, unmap: bool) -> io::Result<()> {
        self.check(offset, len);
        self.0.write_zeroes(offset, len, unmap)
    }
}

/// Bytes that count up; where asked for, every third time there are none.
struct Counting(bool, u8);

impl Read for Counting {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.1 = self.1.wrapping_add(1);
        if self.0 && self.1.is_multiple_of(3) {
            return Err(ErrorKind::WouldBlock.into());
        }
        buffer.fill(self.1);
        Ok(buffer.len())
    }
}

/// Where asked for, it takes little, and every third time nothing.
impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1 = self.1.wrapping_add(1);
        if self.0 && self.1.is_multiple_of(3) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(if self.0 { bytes.len().min(100) } else { bytes.len() })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start(device: &mut dyn VirtioDevice, drivers: [&DriverQueue<'_>; 2], choice: u8) -> Vec<VirtQueue> {
    let [driver, answers] = drivers;
    let mut features = device.description().features | F_VERSION_1;
    if choice & 4 != 0 {
        features |= F_EVENT_IDX;
    }
    device.activate(features);
    match device.description().queue_sizes.len() {
        1 => vec![driver.device_side(0, features)],
        // Of several queues the driver has one, and a socket device's the answers.
        count => {
            let enabled = usize::from(choice) % count;
            let answered = choice & 0x40 != 0;
            let queue = |(index, at)| match at == enabled {
                true => driver.device_side(index, features),
                false if at == 0 && answered => answers.device_side(index, features),
                false => VirtQueue::disabled(index),
            };
            (0..).zip(0..count).map(queue).collect()
        }
    }
}

fn serve(
    device: &mut dyn VirtioDevice,
    ram: &Ram,
    queues: &mut [VirtQueue],
    faults: &Faults,
) -> Result<(), crate::virtio::queue::QueueError> {
    let result = device.process(ram.memory(), queues, faults);
    queues
        .iter_mut()
        .try_for_each(|queue| queue.finish(ram.memory()).map(drop))?;
    result
}
