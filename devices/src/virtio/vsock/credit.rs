//! Who may send how much: each side says how large its buffer is and how many bytes have left it (virtio 1.2, §5.10.6.3).
//!
//! All counts of bytes wrap.

use std::num::Wrapping;

use super::packet::Header;

/// Bytes of the guest's that are kept for a program of the host that does not read, a connection.
pub(super) const BUFFER: u32 = 128 << 10;
/// The guest hears of room again when there is this much more than it knows of.
const NEWS: u32 = BUFFER / 2;

/// The two directions of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Credit {
    /// Size of the guest's buffer, and how many bytes have left it, as it says.
    guest_room: u32,
    guest_forwarded: Wrapping<u32>,
    sent: Wrapping<u32>,
    received: Wrapping<u32>,
    forwarded: Wrapping<u32>,
    /// What the guest knows of `forwarded`.
    told: Wrapping<u32>,
}

impl Credit {
    /// The guest says something about its side, as it does in every packet.
    pub(super) fn hear(&mut self, header: &Header) {
        self.guest_room = header.room;
        self.guest_forwarded = Wrapping(header.forwarded);
    }

    /// How much the guest has room for; nothing where it claims what cannot be.
    pub(super) fn may_send(&self) -> usize {
        let under_way = (self.sent - self.guest_forwarded).0;
        usize::try_from(self.guest_room.saturating_sub(under_way)).unwrap_or(usize::MAX)
    }

    /// The guest is sent so many bytes, no more than [`Credit::may_send`].
    pub(super) fn send(&mut self, count: usize) {
        self.sent += u32::try_from(count).unwrap_or(u32::MAX);
    }

    /// The guest has sent so many bytes. False: more than it might.
    pub(super) fn receive(&mut self, count: usize) -> bool {
        let kept = (self.received - self.forwarded).0;
        let fits = u32::try_from(count).is_ok_and(|count| count <= BUFFER - kept);
        if fits {
            self.received += u32::try_from(count).unwrap_or(0);
        }
        fits
    }

    /// So many of the guest's bytes have gone to the host's program.
    pub(super) fn forward(&mut self, count: usize) {
        self.forwarded += u32::try_from(count).unwrap_or(0);
    }

    /// Whether the guest should hear of the room that there is.
    pub(super) fn has_news(&self) -> bool {
        (self.forwarded - self.told).0 >= NEWS
    }

    /// Size of our buffer and how much has left it, for a packet that is about to go.
    pub(super) fn tell(&mut self) -> (u32, u32) {
        self.told = self.forwarded;
        (BUFFER, self.forwarded.0)
    }
}

#[cfg(test)]
mod tests;
