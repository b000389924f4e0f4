//! Ranges of guest memory, and how page numbers become few of them. Pure.

use std::fmt;

use vm_memory::GuestAddress;

use crate::size::PageSize;

/// A range of guest-physical addresses.
///
/// The fields may hold anything that a guest says; every method treats an end above 2^64 - 1 as 2^64 - 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestRange {
    /// First address.
    pub start: GuestAddress,
    /// Bytes.
    pub len: u64,
}

impl GuestRange {
    /// A range of `len` bytes from `start`.
    #[must_use]
    pub const fn new(start: GuestAddress, len: u64) -> Self {
        Self { start, len }
    }

    /// The range from `start` up to, not including, `end`; empty when `end` is not above `start`.
    #[must_use]
    pub const fn between(start: u64, end: u64) -> Self {
        Self::new(GuestAddress(start), end.saturating_sub(start))
    }

    /// The first address after the range.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.start.0.saturating_add(self.len)
    }

    /// Whether the range holds no byte.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `address` lies in the range.
    #[must_use]
    pub const fn contains(&self, address: GuestAddress) -> bool {
        address.0 >= self.start.0 && address.0 < self.end()
    }

    /// What both ranges have, if they have something.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let common = Self::between(self.start.0.max(other.start.0), self.end().min(other.end()));
        (!common.is_empty()).then_some(common)
    }

    /// The whole pages inside the range, if there are any.
    #[must_use]
    pub fn shrink_to(&self, page: PageSize) -> Option<Self> {
        let start = page.ceil(self.start.0)?;
        let whole = Self::between(start, page.floor(self.end()));
        (!whole.is_empty()).then_some(whole)
    }
}

impl fmt::Display for GuestRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.start.0, self.end())
    }
}

/// The number of a guest page of 4 KiB, as virtio-balloon sends it (virtio 1.3, §5.5.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pfn(pub u32);

impl Pfn {
    /// Where the page starts. The shift is done in 64 bits: page numbers reach beyond 4 GiB.
    #[must_use]
    pub const fn address(self) -> GuestAddress {
        GuestAddress((self.0 as u64) << PageSize::BASE.shift())
    }
}

/// Sorts page numbers, drops what is there twice, and puts the runs into `out` as ranges, sorted and apart from each other.
///
/// `out` is emptied first. Neither vector allocates once it is large enough, so a caller that keeps both pays nothing.
pub fn merge_pfns(pfns: &mut Vec<Pfn>, out: &mut Vec<GuestRange>) {
    out.clear();
    pfns.sort_unstable();
    pfns.dedup();
    for pfn in pfns.iter() {
        let start = pfn.address();
        match out.last_mut() {
            Some(last) if last.end() == start.0 => last.len += PageSize::BASE.bytes(),
            _ => out.push(GuestRange::new(start, PageSize::BASE.bytes())),
        }
    }
}

#[cfg(test)]
mod tests;
