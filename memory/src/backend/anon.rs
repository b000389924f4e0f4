//! Anonymous private memory.

use std::io;
use std::os::fd::BorrowedFd;

use super::{Backend, Held, Released};
use crate::mapping::{Advice, MapRequest, Mapping, Span};
use crate::release::{Way, whole_pages};
use crate::size::{ByteSize, PageSize};

/// Private memory without a file.
#[derive(Debug)]
pub(super) struct Anonymous;

impl Backend for Anonymous {
    fn describe(&self) -> String {
        "anonymous memory".to_owned()
    }

    fn page_size(&self) -> PageSize {
        PageSize::BASE
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn shared_file(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn caches_disk(&self) -> bool {
        false
    }

    fn keeps(&self) -> Option<&'static str> {
        None
    }

    fn map(&self, size: ByteSize, guest_start: u64, reserve: bool) -> io::Result<Mapping> {
        Mapping::new(&MapRequest {
            size,
            page: PageSize::BASE,
            align: None,
            guest_start,
            file: None,
            reserve,
        })
    }

    fn started(&self) {}

    fn release(&self, mapping: &Mapping, spans: &mut Vec<Span>) -> Released {
        let advice = if mapping.is_locked() {
            Advice::DontNeedLocked
        } else {
            Advice::DontNeed
        };
        whole_pages(mapping, spans, PageSize::BASE, Way::Advice(advice))
    }

    fn held(&self, _mapping: &Mapping) -> io::Result<Held> {
        Ok(Held::Mapped)
    }

    fn room(&self) -> Option<ByteSize> {
        None
    }
}
