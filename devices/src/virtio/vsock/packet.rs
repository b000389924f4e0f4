//! Packets: a header and up to 64 KiB of bytes, over any number of descriptors (virtio 1.2, §5.10.6).

use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

use crate::virtio::Memory;
use crate::virtio::queue::Chain;

/// Bytes of a header.
pub(super) const HEADER: usize = 44;
/// Most bytes after it; Linux sends no more either.
pub(super) const MOST: usize = 64 << 10;
/// Descriptors of one chain that are looked at. Linux needs one for the header and one for each 4 KiB at worst.
const MAX_DESCRIPTORS: usize = 64;

/// VIRTIO_VSOCK_TYPE_STREAM.
pub(super) const STREAM: u16 = 1;
/// `flags` of [`Op::Shutdown`]: who sends it takes no more, sends no more.
pub(super) const NO_MORE_TAKEN: u32 = 1;
pub(super) const NO_MORE_SENT: u32 = 2;

/// What a packet is for (§5.10.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Op {
    Request = 1,
    Response = 2,
    Reset = 3,
    Shutdown = 4,
    Bytes = 5,
    CreditUpdate = 6,
    CreditRequest = 7,
}

impl Op {
    fn from_number(number: u16) -> Option<Op> {
        const ALL: [Op; 7] = [
            Op::Request,
            Op::Response,
            Op::Reset,
            Op::Shutdown,
            Op::Bytes,
            Op::CreditUpdate,
            Op::CreditRequest,
        ];
        ALL.into_iter().find(|op| *op as u16 == number)
    }
}

/// `struct virtio_vsock_hdr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) from_cid: u64,
    pub(super) to_cid: u64,
    pub(super) from_port: u32,
    pub(super) to_port: u32,
    pub(super) len: u32,
    pub(super) kind: u16,
    /// None: not one of the specification's.
    pub(super) op: Option<Op>,
    pub(super) flags: u32,
    pub(super) room: u32,
    pub(super) forwarded: u32,
}

impl Header {
    pub(super) fn parse(bytes: &[u8; HEADER]) -> Header {
        fn part<const N: usize>(bytes: &[u8; HEADER], at: usize) -> [u8; N] {
            std::array::from_fn(|index| bytes[at + index])
        }
        Header {
            from_cid: u64::from_le_bytes(part(bytes, 0)),
            to_cid: u64::from_le_bytes(part(bytes, 8)),
            from_port: u32::from_le_bytes(part(bytes, 16)),
            to_port: u32::from_le_bytes(part(bytes, 20)),
            len: u32::from_le_bytes(part(bytes, 24)),
            kind: u16::from_le_bytes(part(bytes, 28)),
            op: Op::from_number(u16::from_le_bytes(part(bytes, 30))),
            flags: u32::from_le_bytes(part(bytes, 32)),
            room: u32::from_le_bytes(part(bytes, 36)),
            forwarded: u32::from_le_bytes(part(bytes, 40)),
        }
    }

    pub(super) fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        let op = self.op.map_or(0, |op| op as u16);
        let parts: [&[u8]; 10] = [
            &self.from_cid.to_le_bytes(),
            &self.to_cid.to_le_bytes(),
            &self.from_port.to_le_bytes(),
            &self.to_port.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &op.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.room.to_le_bytes(),
            &self.forwarded.to_le_bytes(),
        ];
        let all = parts.into_iter().flatten();
        bytes.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        bytes
    }
}

/// Reads a driver's packet, its bytes into `payload`. None: the chain holds none.
pub(super) fn read(memory: &Memory, chain: Chain<'_>, payload: &mut Vec<u8>) -> Option<Header> {
    payload.clear();
    let (mut bytes, mut have) = ([0; HEADER], 0);
    let mut header = None;
    for descriptor in chain.take(MAX_DESCRIPTORS) {
        if descriptor.is_write_only() {
            return None;
        }
        let (mut address, mut left) = (descriptor.addr(), usize::try_from(descriptor.len()).ok()?);
        if have < HEADER {
            let part = left.min(HEADER - have);
            memory.read_slice(&mut bytes[have..have + part], address).ok()?;
            have += part;
            left -= part;
            address = GuestAddress(address.0.checked_add(part as u64)?);
        }
        if have < HEADER {
            continue;
        }
        let found = *header.get_or_insert_with(|| Header::parse(&bytes));
        let wanted = usize::try_from(found.len).ok().filter(|len| *len <= MOST)?;
        let (at, part) = (payload.len(), left.min(wanted - payload.len()));
        payload.resize(at + part, 0);
        memory.read_slice(&mut payload[at..], address).ok()?;
        if payload.len() == wanted {
            return Some(found);
        }
    }
    None
}

/// A driver's buffer, which may be written to.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    pieces: Vec<(GuestAddress, usize)>,
    /// Bytes of all pieces.
    size: usize,
}

impl Buffer {
    /// Looks at a chain. Returns how many bytes it has room for besides a header; None: it is no buffer for packets.
    pub(super) fn measure(&mut self, memory: &Memory, chain: Chain<'_>) -> Option<usize> {
        self.pieces.clear();
        self.size = 0;
        for descriptor in chain.take(MAX_DESCRIPTORS) {
            let length = usize::try_from(descriptor.len()).ok()?;
            let length = length.min(HEADER + MOST - self.size);
            if !descriptor.is_write_only()
                || !memory.check_range(descriptor.addr(), length, Permissions::Write)
            {
                return None;
            }
            self.size += length;
            self.pieces.push((descriptor.addr(), length));
            if self.size == HEADER + MOST {
                break;
            }
        }
        self.size.checked_sub(HEADER)
    }

    /// Writes a packet that has room. Returns its length.
    pub(super) fn write(&self, memory: &Memory, header: &Header, payload: &[u8]) -> Option<u32> {
        let header = header.bytes();
        let mut written = 0;
        for (address, length) in &self.pieces {
            let (mut address, mut length) = (*address, *length);
            for (start, part) in [(0, &header[..]), (HEADER, payload)] {
                let end = start + part.len();
                if (start..end).contains(&written) && length > 0 {
                    let part = &part[written - start..];
                    let part = &part[..part.len().min(length)];
                    memory.write_slice(part, address).ok()?;
                    written += part.len();
                    length -= part.len();
                    address = GuestAddress(address.0.checked_add(part.len() as u64)?);
                }
            }
        }
        (written == HEADER + payload.len()).then_some(u32::try_from(written).ok()?)
    }
}
