//! Frames of the driver: from guest memory into the network, without a copy in between.

use std::io::ErrorKind;

use memory::transfer::MAX_SENT_PIECES;
use vm_memory::GuestMemoryBackend;

use super::{TURN, Turn};
use crate::fault::{Faults, GuestFault};
use crate::net::{HEADER, MAX_FRAME, Network, Piece};
use crate::virtio::Memory;
use crate::virtio::queue::{Chain, QueueError, VirtQueue};

/// Bytes of an Ethernet header: nothing shorter is a frame.
pub(super) const MIN_FRAME: usize = 14;

/// Sends what is available. A frame that the network does not take is lost, as on a wire.
pub(super) fn serve(
    network: &mut dyn Network,
    memory: &Memory,
    queue: &mut VirtQueue,
    faults: &Faults,
) -> Result<Turn, QueueError> {
    let number = queue.index();
    let mut pieces = Vec::with_capacity(MAX_SENT_PIECES);
    for _ in 0..TURN {
        let Some(chain) = queue.available(memory)?.next() else {
            return Ok(Turn::Idle);
        };
        let head = chain.head();
        match read(memory, chain, &mut pieces) {
            None => faults.count(GuestFault::VirtioChain { queue: number }),
            Some(length) => {
                let fits = (HEADER + MIN_FRAME..=HEADER + MAX_FRAME).contains(&length);
                let sent = match fits {
                    true => network.send(&pieces).map_err(|error| error.kind()),
                    false => Err(ErrorKind::InvalidInput),
                };
                match sent {
                    Ok(()) => {}
                    Err(ErrorKind::InvalidInput) => faults.count(GuestFault::NetFrame {
                        length: length as u64,
                    }),
                    Err(kind) => tracing::trace!("a frame is lost: {kind}"),
                }
            }
        }
        queue.add_used(memory, head, 0)?;
    }
    Ok(Turn::Full)
}

/// Finds the memory of a chain, and returns how many bytes it is; nothing for a chain that is no frame.
fn read<'a>(memory: &'a Memory, mut chain: Chain<'_>, pieces: &mut Vec<Piece<'a>>) -> Option<usize> {
    pieces.clear();
    let mut length = 0_usize;
    for descriptor in chain.by_ref().take(MAX_SENT_PIECES) {
        if descriptor.is_write_only() {
            return None;
        }
        let bytes = usize::try_from(descriptor.len()).ok()?;
        for piece in GuestMemoryBackend::get_slices(memory, descriptor.addr(), bytes) {
            pieces.push(piece.ok()?);
        }
        length = length.saturating_add(bytes);
    }
    (!chain.is_broken() && pieces.len() <= MAX_SENT_PIECES).then_some(length)
}
