//! The configuration of a disk (virtio 1.2, §5.2.4).

use super::{BlkSpec, QUEUE_SIZE};
use crate::disk::SECTOR;

/// Bytes of it, up to and with `write_zeroes_may_unmap` and its padding.
pub(super) const SIZE: usize = 60;

/// Pieces of a request besides its header and status: what fits into a queue without indirect descriptors.
pub(super) const MAX_SEGMENTS: u16 = QUEUE_SIZE - 2;
/// Bytes of a piece. With [`MAX_SEGMENTS`] it bounds a request to 63.5 MiB.
pub(super) const MAX_SEGMENT_BYTES: u32 = 256 << 10;
/// Sectors of one discard: 1 GiB.
pub(super) const MAX_DISCARD_SECTORS: u32 = 1 << 21;
/// Sectors of one write of zeros: 32 MiB, since some hosts have to write them.
pub(super) const MAX_ZEROES_SECTORS: u32 = 1 << 16;
/// Sectors that a host's block has, for drivers that align what they discard.
const DISCARD_ALIGNMENT: u32 = 8;

/// The bytes for a disk of `size` bytes.
pub(super) fn config_space(spec: &BlkSpec, size: u64) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &(size / SECTOR).to_le_bytes());
    put(8, &MAX_SEGMENT_BYTES.to_le_bytes());
    put(12, &u32::from(MAX_SEGMENTS).to_le_bytes());
    put(20, &512_u32.to_le_bytes());
    put(34, &spec.queues.to_le_bytes());
    if !spec.read_only {
        if spec.discard {
            put(36, &MAX_DISCARD_SECTORS.to_le_bytes());
            put(40, &1_u32.to_le_bytes());
            put(44, &DISCARD_ALIGNMENT.to_le_bytes());
        }
        put(48, &MAX_ZEROES_SECTORS.to_le_bytes());
        put(52, &1_u32.to_le_bytes());
        put(56, &[u8::from(spec.discard)]);
    }
    bytes
}
