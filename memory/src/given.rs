//! Which blocks of a backend its guest gave back, so that nobody fills them again beside the guest.

use std::sync::{PoisonError, RwLock};

use crate::mapping::Span;
use crate::release::Reason;
use crate::size::PageSize;

/// One bit a block and reason: 64 KiB for a guest of 512 GiB.
///
/// A release marks its blocks before it begins, and who fills holds the lock for reading while it does: so a release comes
/// after the filling of a block and frees it, or before, and the block stays free. A release waits for one block at most.
#[derive(Debug)]
pub(crate) struct Given {
    /// What goes back.
    page: PageSize,
    /// What is filled at once: 2 MiB, or a page where that is larger.
    block: PageSize,
    marks: RwLock<Marks>,
}

#[derive(Debug)]
struct Marks {
    inflated: Vec<u64>,
    reported: Vec<u64>,
}

impl Given {
    /// Nothing of `len` bytes in pages of `page` was given back.
    pub(crate) fn new(len: u64, page: PageSize) -> Self {
        let block = page.max(PageSize::HUGE_2M);
        let words = usize::try_from(len.div_ceil(block.bytes()).div_ceil(64)).unwrap_or(usize::MAX);
        let marks = Marks {
            inflated: vec![0; words],
            reported: vec![0; words],
        };
        Self {
            page,
            block,
            marks: RwLock::new(marks),
        }
    }

    /// Bytes of a block; the first begins at offset 0.
    pub(crate) const fn block(&self) -> u64 {
        self.block.bytes()
    }

    /// The whole pages inside `spans` go back now.
    pub(crate) fn mark(&self, spans: &[Span], reason: Reason) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        let bits = match reason {
            Reason::Inflated => &mut marks.inflated,
            Reason::Reported => &mut marks.reported,
        };
        for span in spans {
            let end = self.page.floor(span.end());
            let start = self.page.ceil(span.offset).unwrap_or(end);
            if start >= end {
                continue;
            }
            let blocks = start >> self.block.shift()..=(end - 1) >> self.block.shift();
            for (index, mask) in blocks.map(place) {
                let Some(word) = bits.get_mut(index) else {
                    break;
                };
                *word |= mask;
            }
        }
    }

    /// The balloon is empty: all that was inflated is the guest's again. What it reported it takes again without a word.
    pub(crate) fn deflated(&self) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        marks.inflated.fill(0);
    }

    /// What was reported until now does not count any more: somebody wants it filled all the same, or it is a new guest.
    pub(crate) fn forget_reports(&self) {
        let mut marks = self.marks.write().unwrap_or_else(PoisonError::into_inner);
        marks.reported.fill(0);
    }

    /// Does `work` while nothing of the block at `offset` can go back; `None`: some of it did.
    pub(crate) fn unless_given<T>(&self, offset: u64, work: impl FnOnce() -> T) -> Option<T> {
        let marks = self.marks.read().unwrap_or_else(PoisonError::into_inner);
        let (index, mask) = place(offset >> self.block.shift());
        let given = |bits: &[u64]| bits.get(index).is_some_and(|word| word & mask != 0);
        (!given(&marks.inflated) && !given(&marks.reported)).then(work)
    }
}

/// Where the bit of a block is: index of the word, and mask.
fn place(block: u64) -> (usize, u64) {
    (
        usize::try_from(block / 64).unwrap_or(usize::MAX),
        1 << (block % 64),
    )
}

#[cfg(test)]
mod tests;
