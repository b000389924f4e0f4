//! Pages that have to be there before the guest's first instruction.

use crate::mapping::Span;
use crate::prealloc;
use crate::range::GuestRange;

use super::refusal::provide_error;
use super::{Ram, RamError};

impl Ram {
    /// Has the host supply the pages of what lies in `range`, so that whoever writes there meets no missing one. Before Linux
    /// 5.14 that is left to the first touch.
    ///
    /// # Errors
    /// The shortage of the pool, or [`RamError::Provide`].
    pub fn provide(&self, range: GuestRange) -> Result<(), RamError> {
        for region in self.regions() {
            let Some(part) = region.guest().intersection(&range) else {
                continue;
            };
            let opened = &self.backends()[region.backend()].opened;
            let page = region.page_size().bytes();
            let first = region.offset() + (part.start.0 - region.guest().start.0);
            let offset = first / page * page;
            let end = (first + part.len).next_multiple_of(page);
            let span = Span {
                offset,
                len: end.min(opened.mapping.len()) - offset,
            };
            prealloc::provide_early(&opened.mapping, span).map_err(|source| {
                provide_error(
                    &opened.spec(),
                    opened.source.as_ref(),
                    &opened.mapping,
                    span,
                    source,
                )
            })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
