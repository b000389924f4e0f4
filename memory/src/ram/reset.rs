//! RAM when its machine is reset: nothing of the old guest is needed any more.

use crate::backend::Lock;
use crate::release::Reason;

use super::{OpenBackend, Ram};

impl Ram {
    /// Gives all RAM back to the host, which reads as zeroes then, but for backends whose pages were to be there from the
    /// start, or could not be had again for sure; those keep their contents, as RAM does over a reset of a real machine.
    /// Nothing is in a balloon afterwards. Returns the bytes that were discarded.
    ///
    /// Nobody may use the RAM meanwhile.
    pub fn reset(&self) -> u64 {
        let goes = self.backends().iter().filter(|backend| !backend.stays_at_reset());
        let discarded = goes.map(|backend| {
            let mut spans = vec![backend.opened.mapping.whole()];
            backend.release(&mut spans, Reason::Inflated).discarded
        });
        let discarded = discarded.sum();
        self.all_in_use();
        let backends = self.backends().iter();
        backends.for_each(|backend| backend.opened.given.forget_reports());
        discarded
    }
}

impl OpenBackend {
    /// Preallocated or locked pages were paid for, reserved huge pages would lose their reservation.
    fn stays_at_reset(&self) -> bool {
        let spec = self.spec();
        let reserved = self.page_size().is_huge() && self.effective().reserve;
        self.is_preallocated() || spec.lock != Lock::Off || reserved || self.keeps().is_some()
    }
}

#[cfg(test)]
mod tests;
