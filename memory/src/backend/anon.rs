//! Anonymous private memory.

use std::io;

use super::{Backend, BackendSpec, OpenError, Released};
use crate::mapping::{Advice, MapRequest, Mapping, Span};
use crate::proc;
use crate::release::whole_pages;
use crate::size::{ByteSize, PageSize};

/// Private memory without a file.
#[derive(Debug)]
pub(super) struct Anonymous;

impl Backend for Anonymous {
    fn open(_spec: &BackendSpec) -> Result<Self, OpenError> {
        Ok(Self)
    }

    fn describe(&self) -> String {
        "anonymous memory".to_owned()
    }

    fn page_size(&self) -> PageSize {
        PageSize::BASE
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn map(&self, size: ByteSize, guest_start: u64, reserve: bool) -> io::Result<Mapping> {
        Mapping::new(&MapRequest {
            size,
            page: PageSize::BASE,
            guest_start,
            file: None,
            reserve,
        })
    }

    fn release(&self, mapping: &Mapping, spans: &mut Vec<Span>) -> Released {
        whole_pages(mapping, spans, PageSize::BASE, Advice::DontNeed)
    }

    fn resident(&self, mapping: &Mapping) -> io::Result<ByteSize> {
        Ok(proc::smaps(mapping)?.size("Rss"))
    }

    fn room(&self) -> Option<ByteSize> {
        None
    }
}
