//! A contiguous piece of guest RAM: where the guest sees it, where the host has it, and which backend it is of.

use crate::range::GuestRange;
use crate::size::PageSize;

/// One contiguous piece of guest RAM: one KVM memory slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    pub(crate) guest: GuestRange,
    pub(crate) host_address: u64,
    pub(crate) backend: usize,
    pub(crate) offset: u64,
    pub(crate) page: PageSize,
}

impl Region {
    /// Where the guest sees it.
    #[must_use]
    pub fn guest(&self) -> GuestRange {
        self.guest
    }

    /// The host address of its first byte, which agrees with the guest address modulo 2 MiB and modulo the backing page.
    #[must_use]
    pub fn host_address(&self) -> u64 {
        self.host_address
    }

    /// Index of its backend in [`crate::ram::Ram::backends`].
    #[must_use]
    pub fn backend(&self) -> usize {
        self.backend
    }

    /// Where it starts in the backend, in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The size of the pages behind it.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.page
    }
}
