//! Networks: where a network card's frames go to and come from.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

pub use memory::transfer::Piece;

/// Bytes of the header before each frame, in both directions: `struct virtio_net_hdr_v1` (virtio 1.2, §5.1.6).
pub const HEADER: usize = 12;
/// Bytes of the longest frame, its header apart: 64 KiB that are still to be cut into packets, and the Ethernet header with two VLAN
/// tags.
pub const MAX_FRAME: usize = (64 << 10) + 22;

/// What may be left undone in frames that are received: the guest does it, or knows that it need not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Checksums.
    pub checksum: bool,
    /// Cutting TCP over IPv4 into packets; needs `checksum`, as the others do.
    pub tso4: bool,
    /// Cutting TCP over IPv6 into packets.
    pub tso6: bool,
    /// Cutting TCP with ECN into packets.
    pub ecn: bool,
}

/// A network. One thread has it.
pub trait Network: Send + fmt::Debug {
    /// Takes the next frame, its header first, into `frame`, which has room for [`HEADER`] and [`MAX_FRAME`]. Returns how many bytes
    /// they are.
    ///
    /// # Errors
    /// `WouldBlock` when there is none now; else what the host says, and there will be no more.
    fn receive(&mut self, frame: &mut [u8]) -> io::Result<usize>;

    /// Sends a frame, its header first, in at most [`memory::transfer::MAX_SENT_PIECES`] pieces.
    ///
    /// # Errors
    /// `InvalidInput` for a header that makes no sense; else what the host says. The frame is lost.
    fn send(&mut self, frame: &[Piece<'_>]) -> io::Result<()>;

    /// Says what frames may come like from now on; those that wait may still be as before.
    ///
    /// # Errors
    /// What the host says.
    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()>;

    /// Becomes readable when there is a frame; constant.
    fn readable(&self) -> BorrowedFd<'_>;
}
