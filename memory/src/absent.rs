//! Which huge pages were given back to the host and not taken again. Pure.
//!
//! A shared huge page that is given back loses its reservation, so that the pool may be empty when the guest wants the page
//! again. A balloon that hears of it in time can see to the page first; what a guest takes again without a word stays in
//! this record, although the host may have provided it.

use vm_memory::GuestAddress;

use crate::range::GuestRange;
use crate::size::PageSize;

/// The huge pages of a guest that the host has got back. One bit for each.
#[derive(Clone, Debug, Default)]
pub struct Absent {
    areas: Vec<Area>,
    unreserved: u64,
}

/// One region that is backed by huge pages.
#[derive(Clone, Debug)]
struct Area {
    guest: GuestRange,
    page: PageSize,
    /// Whether the pages were reserved, so that giving them back lost something.
    reserved: bool,
    bits: Vec<u64>,
}

impl Absent {
    /// All pages are there. Each region has its guest range, the size of its pages, and whether they were reserved at start.
    pub fn new(regions: impl IntoIterator<Item = (GuestRange, PageSize, bool)>) -> Self {
        let mut areas: Vec<Area> = regions
            .into_iter()
            .filter(|(_, page, _)| page.is_huge())
            .filter_map(|(guest, page, reserved)| {
                let guest = guest.shrink_to(page)?;
                let words = usize::try_from((guest.len >> page.shift()).div_ceil(64)).ok()?;
                let bits = vec![0; words];
                Some(Area {
                    guest,
                    page,
                    reserved,
                    bits,
                })
            })
            .collect();
        areas.sort_unstable_by_key(|area| area.guest.start);
        Self { areas, unreserved: 0 }
    }

    /// Notes that the whole huge pages inside `range` were given back.
    pub fn insert(&mut self, range: GuestRange) {
        self.change(range, true);
    }

    /// Notes that the whole huge pages inside `range` are there again.
    pub fn remove(&mut self, range: GuestRange) {
        self.change(range, false);
    }

    /// Appends to `out` each page that was given back and of which `range` has a part.
    pub fn touched(&self, range: GuestRange, out: &mut Vec<GuestRange>) {
        for area in &self.areas {
            let Some(common) = area.guest.intersection(&range) else {
                continue;
            };
            let first = (common.start.0 - area.guest.start.0) >> area.page.shift();
            let last = (common.end() - 1 - area.guest.start.0) >> area.page.shift();
            let absent =
                (first..=last).filter(|page| area.bit(*page).is_some_and(|(word, mask)| word & mask != 0));
            out.extend(absent.map(|page| {
                let start = area.guest.start.0 + (page << area.page.shift());
                GuestRange::new(GuestAddress(start), area.page.bytes())
            }));
        }
    }

    /// Bytes of pages whose reservation was given up with them.
    #[must_use]
    pub fn unreserved(&self) -> u64 {
        self.unreserved
    }

    fn change(&mut self, range: GuestRange, absent: bool) {
        for area in &mut self.areas {
            let common = area.guest.intersection(&range);
            let Some(common) = common.and_then(|common| common.shrink_to(area.page)) else {
                continue;
            };
            let first = (common.start.0 - area.guest.start.0) >> area.page.shift();
            let mut changed = 0;
            for page in first..first + (common.len >> area.page.shift()) {
                let (index, mask) = place(page);
                let Some(word) = area.bits.get_mut(index) else {
                    break;
                };
                if (*word & mask != 0) != absent {
                    *word ^= mask;
                    changed += area.page.bytes();
                }
            }
            if area.reserved {
                self.unreserved = match absent {
                    true => self.unreserved.saturating_add(changed),
                    false => self.unreserved.saturating_sub(changed),
                };
            }
        }
    }
}

impl Area {
    /// The word that holds a page's bit, and the bit.
    fn bit(&self, page: u64) -> Option<(u64, u64)> {
        let (index, mask) = place(page);
        self.bits.get(index).map(|word| (*word, mask))
    }
}

/// Where the bit of a page is: index of the word, and mask.
fn place(page: u64) -> (usize, u64) {
    (usize::try_from(page / 64).unwrap_or(usize::MAX), 1 << (page % 64))
}

#[cfg(test)]
mod tests;
