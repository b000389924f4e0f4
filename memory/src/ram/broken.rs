//! Pages of RAM whose memory in the host is broken.

use vm_memory::GuestAddress;

use super::Ram;
use crate::mapping::{Advice, Span};
use crate::range::GuestRange;

impl Ram {
    /// Replaces broken pages by empty ones, which are taken when they are touched. Each of `pages` is a whole page of its
    /// backend. What was in them is lost; a page that could not be replaced stays broken.
    pub fn replace(&self, pages: &[GuestRange]) {
        let released = self.release(pages);
        tracing::debug!(?pages, ?released, "broken pages replaced");
        for page in pages {
            let Some(region) = self.region_at(page.start) else {
                continue;
            };
            // A hole in the file leaves the mark of a broken page in our page table: zap_pte_range() of mm/memory.c passes
            // over it unless the mapping itself gives its pages up.
            let mapping = &self.backends()[region.backend()].opened.mapping;
            let advice = if mapping.is_locked() {
                Advice::DontNeedLocked
            } else {
                Advice::DontNeed
            };
            let span = Span {
                offset: region.offset() + (page.start.0 - region.guest().start.0),
                len: page.len,
            };
            if let Err(error) = mapping.advise(span, advice) {
                let GuestAddress(address) = page.start;
                tracing::warn!("the broken page at guest address {address:#x} stays: {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
