//! What a chain asks of a disk (virtio 1.2, §5.2.6): a header, data to read or room to write into, and a byte for the status.
//! Where one descriptor ends and the next begins means nothing.

use vm_memory::{Bytes, GuestMemoryBackend};

use crate::disk::{Piece, SECTOR};
use crate::virtio::Memory;
use crate::virtio::queue::Chain;

use super::MAX_SEGMENTS;

/// Bytes of the header: kind, reserved, sector.
const HEADER: usize = 16;
/// Bytes of a range: sector, number of sectors, flags.
const RANGE: usize = 16;
/// Flag of a range of zeros: its space may go back to the host.
pub(super) const UNMAP: u32 = 1;
/// Bytes that one request moves at most; also with pieces longer than a driver was told.
const MAX_BYTES: u64 = 64 << 20;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    Flush,
    Id,
    Discard,
    WriteZeroes,
    Unknown,
}

const KINDS: [(u32, Kind); 6] = [
    (0, Kind::Read),
    (1, Kind::Write),
    (4, Kind::Flush),
    (8, Kind::Id),
    (11, Kind::Discard),
    (13, Kind::WriteZeroes),
];

/// How it went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Status {
    Ok = 0,
    Error = 1,
    Unsupported = 2,
}

/// A chain that is no request: the driver gets it back as it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// A part of the disk, inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Range {
    fn of_sectors(sector: u64, len: u64, size: u64) -> Option<Range> {
        let offset = sector.checked_mul(SECTOR)?;
        let inside = offset.checked_add(len)? <= size;
        (inside && len.is_multiple_of(SECTOR)).then_some(Range { offset, len })
    }
}

/// One request, its memory found.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) kind: Kind,
    sector: u64,
    /// What the driver sends.
    pub(super) out: Vec<Piece<'a>>,
    /// Room for what it wants.
    pub(super) into: Vec<Piece<'a>>,
    status: Piece<'a>,
}

impl<'a> Request<'a> {
    /// Reads a chain, bounded in descriptors.
    pub(super) fn read(memory: &'a Memory, mut chain: Chain<'_>) -> Result<Request<'a>, Broken> {
        let (mut out, mut into) = (Vec::new(), Vec::new());
        let most = usize::from(MAX_SEGMENTS) + 2;
        for descriptor in chain.by_ref().take(most) {
            let side = match descriptor.is_write_only() {
                true => &mut into,
                // What the device writes comes last.
                false if into.is_empty() => &mut out,
                false => return Err(Broken),
            };
            let length = usize::try_from(descriptor.len()).map_err(|_| Broken)?;
            for piece in GuestMemoryBackend::get_slices(memory, descriptor.addr(), length) {
                side.push(piece.map_err(|_| Broken)?);
            }
        }
        if chain.is_broken() {
            return Err(Broken);
        }
        let header: [u8; HEADER] = take(&mut out)?;
        let [k0, k1, k2, k3, _, _, _, _, sector @ ..] = header;
        let number = u32::from_le_bytes([k0, k1, k2, k3]);
        let known = KINDS.iter().find(|(known, _)| *known == number);
        let status = last_byte(&mut into)?;
        Ok(Request {
            kind: known.map_or(Kind::Unknown, |(_, kind)| *kind),
            sector: u64::from_le_bytes(sector),
            out,
            into,
            status,
        })
    }

    /// The part of a disk of `size` bytes that `pieces` are to be moved to or from.
    pub(super) fn span(&self, pieces: &[Piece<'_>], size: u64) -> Option<Range> {
        let len = sum(pieces);
        Range::of_sectors(self.sector, len, size).filter(|range| range.len <= MAX_BYTES)
    }

    /// The range and the flags of a discard or of zeros, at most `most` sectors.
    pub(super) fn range(&self, size: u64, most: u32) -> Option<(Range, u32)> {
        let mut out = self.out.clone();
        let bytes: [u8; RANGE] = take(&mut out).ok()?;
        let [s0, s1, s2, s3, s4, s5, s6, s7, c0, c1, c2, c3, flags @ ..] = bytes;
        let sector = u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]);
        let count = u32::from_le_bytes([c0, c1, c2, c3]);
        let range = Range::of_sectors(sector, u64::from(count) * SECTOR, size)?;
        // One range a request, as the configuration says.
        let fine = sum(&out) == 0 && (1..=most).contains(&count);
        fine.then_some((range, u32::from_le_bytes(flags)))
    }

    /// Writes `bytes` into the room for an answer. Returns whether they fit.
    pub(super) fn answer(&self, bytes: &[u8]) -> bool {
        if sum(&self.into) < bytes.len() as u64 {
            return false;
        }
        let mut rest = bytes;
        for piece in &self.into {
            let part = rest.len().min(piece.len());
            piece.copy_from(&rest[..part]);
            rest = &rest[part..];
        }
        true
    }

    /// Bytes that it moves.
    pub(super) fn bytes(&self) -> u64 {
        sum(&self.out) + sum(&self.into)
    }

    /// Writes the status. Returns how many bytes of the chain are written.
    pub(super) fn finish(&self, status: Status) -> u32 {
        let _ = self.status.write_obj(status as u8, 0);
        let written = match (status, self.kind) {
            (Status::Ok, Kind::Read) => sum(&self.into),
            (Status::Ok, Kind::Id) => super::SERIAL_BYTES as u64,
            _ => 0,
        };
        u32::try_from(written + 1).unwrap_or(u32::MAX)
    }
}

fn sum(pieces: &[Piece<'_>]) -> u64 {
    pieces.iter().map(|piece| piece.len() as u64).sum()
}

/// Cuts the first `N` bytes off.
fn take<const N: usize>(pieces: &mut Vec<Piece<'_>>) -> Result<[u8; N], Broken> {
    let mut bytes = [0; N];
    let (mut filled, mut whole) = (0, 0);
    let mut rest = None;
    for piece in pieces.iter() {
        let part = (N - filled).min(piece.len());
        let (front, back) = piece.split_at(part).map_err(|_| Broken)?;
        front.copy_to(&mut bytes[filled..filled + part]);
        (filled, whole) = (filled + part, whole + 1);
        if filled == N {
            rest = Some(back);
            break;
        }
    }
    let rest = rest.ok_or(Broken)?;
    pieces.splice(..whole, (!rest.is_empty()).then_some(rest));
    Ok(bytes)
}

/// Cuts the last byte off.
fn last_byte<'a>(pieces: &mut Vec<Piece<'a>>) -> Result<Piece<'a>, Broken> {
    while let Some(last) = pieces.pop() {
        let Some(front) = last.len().checked_sub(1) else {
            continue;
        };
        let (front, byte) = last.split_at(front).map_err(|_| Broken)?;
        pieces.extend((!front.is_empty()).then_some(front));
        return Ok(byte);
    }
    Err(Broken)
}

#[cfg(test)]
mod tests;
