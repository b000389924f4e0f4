//! What was typed and the guest has not read yet.

use std::collections::VecDeque;
use std::fmt;

use vmm_sys_util::eventfd::EventFd;

/// A device that takes what somebody types.
pub trait InputLine: fmt::Debug + Send + Sync {
    /// Queues `bytes` as input, and returns how many of them there was room for.
    ///
    /// A caller that gets less than it gave stops reading its source until [`InputLine::room`] becomes readable.
    #[must_use = "the rest has to be given again later"]
    fn input(&self, bytes: &[u8]) -> usize;

    /// Becomes readable when there is room for input after some was refused. The reader clears it.
    fn room(&self) -> &EventFd;
}

/// Bytes kept for a guest that does not read them.
pub(crate) const MOST_TYPED: usize = 4096;

/// A bounded backlog of input.
#[derive(Debug, Default)]
pub(crate) struct Typed {
    bytes: VecDeque<u8>,
    /// Input was refused, and nobody has been told since that there is room again.
    refused: bool,
}

impl Typed {
    /// Keeps of `bytes` what there is room for, and returns how many they were.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(MOST_TYPED.saturating_sub(self.bytes.len()));
        self.bytes.extend(&bytes[..taken]);
        self.refused = taken < bytes.len();
        taken
    }

    /// The next byte to read.
    pub(crate) fn first(&self) -> Option<u8> {
        self.bytes.front().copied()
    }

    /// How many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Takes the next bytes out, `most` at most.
    pub(crate) fn take(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.bytes.len());
        self.bytes.drain(..count).collect()
    }

    /// Whether there is room again after some input was refused: true once each time.
    pub(crate) fn has_room_again(&mut self) -> bool {
        let again = self.refused && self.bytes.len() < MOST_TYPED / 2;
        self.refused &= !again;
        again
    }
}
