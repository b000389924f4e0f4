//! What a file has held of a guest's memory, so that somebody who finds the file cut can say whether anything was lost.

use std::io;
use std::os::fd::AsFd;

use rustix::fs::SeekFrom;
use rustix::io::Errno;

use super::lack::Cut;
use crate::release::held_by;
use crate::size::ByteSize;

/// The least that is looked at as one piece.
const PIECE: u64 = 64 << 10;
/// The most pieces, one bit for each.
const PIECES: u64 = 1 << 20;
/// The most pieces that are noted at one look, about 5 ms: who looks has other things to do.
const A_LOOK: usize = 1 << 14;

/// What a file can say of the data in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tells {
    /// Where its holes are (lseek(2), `SEEK_DATA`).
    Holes,
    /// How much it holds, as hugetlbfs.
    Blocks,
    /// Nothing of the memory that matters: what the guest changed is a private copy, which goes with the file's bytes.
    Nothing,
}

/// Which pieces of a part of a file had data in them when they were last looked at.
#[derive(Debug)]
pub(super) struct Footprint {
    /// The part of the file that is the guest's.
    start: u64,
    len: u64,
    piece: u64,
    /// One bit for each piece that had data.
    seen: Vec<u64>,
    /// The piece where the next look begins: 0, but after one that did not come to the end.
    next: u64,
    /// Bytes that the file held, where it cannot tell which; less what was given back since.
    held: Option<u64>,
    /// Whether data was cut off.
    lost: bool,
}

impl Footprint {
    /// Of `len` bytes from `start` on.
    pub(super) fn new(start: u64, len: u64, tells: Tells) -> Self {
        let piece = PIECE.max(len.div_ceil(PIECES).next_power_of_two());
        let words = usize::try_from(len.div_ceil(piece).div_ceil(64)).unwrap_or(0);
        Self {
            start,
            len,
            piece,
            seen: vec![if tells == Tells::Nothing { u64::MAX } else { 0 }; words],
            next: 0,
            held: (tells == Tells::Blocks).then_some(0),
            lost: false,
        }
    }

    /// Looks at the file: notes what it holds, or tells that it has become too short. What was first written after the last
    /// look and is gone at this one was never seen.
    ///
    /// # Errors
    /// What fstat(2) and lseek(2) say.
    pub(super) fn look(&mut self, file: impl AsFd) -> io::Result<Option<Cut>> {
        let size = u64::try_from(rustix::fs::fstat(&file)?.st_size).unwrap_or(0);
        let needed = self.start.saturating_add(self.len);
        let cut = size < needed;
        if cut {
            self.lost |= self.is_seen_from(size);
        }
        match self.held {
            Some(before) => {
                let now = held_by(&file)?.bytes();
                self.lost |= cut && now < before;
                self.held = Some(now);
            }
            None => self.note(&file)?,
        }
        Ok(cut.then_some(Cut {
            size: ByteSize::from_bytes(size),
            needed: ByteSize::from_bytes(needed),
            lost: self.lost,
        }))
    }

    /// `len` bytes at `offset` of the part were given back: they cannot be lost.
    pub(super) fn given_back(&mut self, offset: u64, len: u64) {
        if let Some(held) = &mut self.held {
            *held = held.saturating_sub(len);
        }
        let first = offset.div_ceil(self.piece);
        let end = offset.saturating_add(len) / self.piece;
        for piece in first..end {
            if let Some((word, mask)) = self.bit(piece) {
                *word &= !mask;
            }
        }
    }

    /// Somebody knows of the loss and goes on: what lies behind the end of the file now counts as never written.
    pub(super) fn accept_loss(&mut self, file: impl AsFd) -> io::Result<()> {
        let size = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
        let from = size.saturating_sub(self.start);
        self.given_back(from - from % self.piece, self.len);
        self.lost = false;
        Ok(())
    }

    /// Marks the pieces that have data and had none before. As many calls as there are such pieces, and one more.
    fn note(&mut self, file: impl AsFd) -> io::Result<()> {
        let mut piece = std::mem::take(&mut self.next);
        for _ in 0..A_LOOK {
            let Some(unseen) = self.first_unseen(piece) else {
                return Ok(());
            };
            let at = self.start + unseen * self.piece;
            let data = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
                Ok(data) => data,
                // No data from there on.
                Err(Errno::NXIO) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            piece = data.saturating_sub(self.start) / self.piece;
            match self.bit(piece) {
                Some((word, mask)) => *word |= mask,
                None => return Ok(()),
            }
        }
        self.next = piece;
        Ok(())
    }

    /// Whether a piece that reaches behind byte `end` of the file was seen.
    fn is_seen_from(&mut self, end: u64) -> bool {
        let first = end.saturating_sub(self.start) / self.piece;
        let last = self.len.div_ceil(self.piece);
        (first..last).any(|piece| self.bit(piece).is_some_and(|(word, mask)| *word & mask != 0))
    }

    /// The first piece from `piece` on that was not seen.
    fn first_unseen(&self, piece: u64) -> Option<u64> {
        let first = usize::try_from(piece / 64).ok()?;
        let mut unseen = !self.seen.get(first)? & (u64::MAX << (piece % 64));
        let mut index = first;
        while unseen == 0 {
            index += 1;
            unseen = !*self.seen.get(index)?;
        }
        let found = index as u64 * 64 + u64::from(unseen.trailing_zeros());
        (found < self.len.div_ceil(self.piece)).then_some(found)
    }

    fn bit(&mut self, piece: u64) -> Option<(&mut u64, u64)> {
        let word = usize::try_from(piece / 64).ok()?;
        Some((self.seen.get_mut(word)?, 1 << (piece % 64)))
    }
}

#[cfg(test)]
mod tests;
