//! Which 4 KiB pieces of which huge pages are in the balloon. Pure.
//!
//! A guest balloons 4 KiB at a time, a hugetlb backend frees whole huge pages only. So the pieces are remembered, for all
//! huge pages at once, until the last one of a page arrives. The bits of a complete page stay: when the guest takes one
//! piece back and gives it again, the page is complete again.

use vm_memory::GuestAddress;

use crate::range::GuestRange;
use crate::size::PageSize;

const PIECE: PageSize = PageSize::BASE;

/// The ballooned pieces of the huge pages of a guest.
///
/// One bit for each 4 KiB and four bytes for each huge page, in memory that the host provides only where it is written.
#[derive(Clone, Debug, Default)]
pub struct Partial {
    areas: Vec<Area>,
}

/// One region that is backed by huge pages.
#[derive(Clone, Debug)]
struct Area {
    guest: GuestRange,
    page: PageSize,
    /// One bit for each piece, from the start of the region.
    bits: Vec<u64>,
    /// How many bits of each page are set.
    counts: Vec<u32>,
    /// The sum of `counts` over the pages that are not complete.
    waiting: u64,
}

impl Partial {
    /// Nothing is ballooned in these regions. Each has its guest range and the size of the pages behind it; those with pages
    /// of 4 KiB need no memory here.
    pub fn new(regions: impl IntoIterator<Item = (GuestRange, PageSize)>) -> Self {
        let mut areas: Vec<Area> = regions
            .into_iter()
            .filter(|(_, page)| page.is_huge())
            .filter_map(|(guest, page)| Area::new(guest.shrink_to(page)?, page))
            .collect();
        areas.sort_unstable_by_key(|area| area.guest.start);
        Self { areas }
    }

    /// Notes that the guest gave up `range`, and appends to `complete` what may be released now: each huge page that has all
    /// its pieces in the balloon and at least one in `range`, and those whole 4 KiB pages of `range` that lie outside huge
    /// pages, as they are. A piece that is not given up completely does not count.
    pub fn insert(&mut self, range: GuestRange, complete: &mut Vec<GuestRange>) {
        let Some(range) = range.shrink_to(PIECE) else {
            return;
        };
        let mut next = range.start.0;
        for area in &mut self.areas {
            let Some(common) = area.guest.intersection(&range) else {
                continue;
            };
            push(complete, GuestRange::between(next, common.start.0));
            area.insert(&common, complete);
            next = common.end();
        }
        push(complete, GuestRange::between(next, range.end()));
    }

    /// Notes that the guest took `range` back: no piece that it touches is ballooned any more.
    pub fn remove(&mut self, range: GuestRange) {
        let end = PIECE.ceil(range.end()).unwrap_or(PIECE.floor(u64::MAX));
        let range = GuestRange::between(PIECE.floor(range.start.0), end);
        for area in &mut self.areas {
            if let Some(common) = area.guest.intersection(&range) {
                area.remove(&common);
            }
        }
    }

    /// Forgets everything: the balloon is empty.
    pub fn clear(&mut self) {
        for area in &mut self.areas {
            area.clear();
        }
    }

    /// Bytes of pieces in the regions inside `guest` that wait for the rest of their huge page. Complete pages wait for
    /// nothing and do not count.
    #[must_use]
    pub fn bytes(&self, guest: GuestRange) -> u64 {
        let inside = self.areas.iter().filter(|area| guest.contains(area.guest.start));
        inside.map(|area| area.waiting).sum::<u64>() * PIECE.bytes()
    }
}

/// Appends `range` unless it is empty, to the range before where they touch.
fn push(out: &mut Vec<GuestRange>, range: GuestRange) {
    if range.is_empty() {
        return;
    }
    match out.last_mut() {
        Some(last) if last.end() == range.start.0 => last.len += range.len,
        _ => out.push(range),
    }
}

impl Area {
    fn new(guest: GuestRange, page: PageSize) -> Option<Self> {
        let words = usize::try_from((guest.len >> PIECE.shift()).div_ceil(64)).ok()?;
        let pages = usize::try_from(guest.len >> page.shift()).ok()?;
        Some(Self {
            guest,
            page,
            bits: vec![0; words],
            counts: vec![0; pages],
            waiting: 0,
        })
    }

    fn pieces_per_page(&self) -> u64 {
        1 << (self.page.shift() - PIECE.shift())
    }

    /// `range` lies in this area and has whole pieces.
    fn insert(&mut self, range: &GuestRange, complete: &mut Vec<GuestRange>) {
        let whole = self.pieces_per_page();
        for (page, pieces) in self.split(range) {
            let set = self.change(pieces, true);
            if self.recount(page, i64::from(set)) == whole {
                let start = self.guest.start.0 + ((page as u64) << self.page.shift());
                push(complete, GuestRange::new(GuestAddress(start), self.page.bytes()));
            }
        }
    }

    /// `range` lies in this area and has whole pieces.
    fn remove(&mut self, range: &GuestRange) {
        for (page, pieces) in self.split(range) {
            let cleared = self.change(pieces, false);
            self.recount(page, -i64::from(cleared));
        }
    }

    /// Counts `change` more pieces of a page, and returns how many it has now.
    fn recount(&mut self, page: usize, change: i64) -> u64 {
        let whole = self.pieces_per_page();
        let Some(count) = self.counts.get_mut(page) else {
            return 0;
        };
        let waits = |count: u32| {
            if u64::from(count) < whole {
                u64::from(count)
            } else {
                0
            }
        };
        let before = waits(*count);
        *count = u32::try_from(i64::from(*count) + change).unwrap_or(0);
        self.waiting = self.waiting.saturating_sub(before).saturating_add(waits(*count));
        u64::from(*count)
    }

    fn clear(&mut self) {
        let words_per_page = usize::try_from(self.pieces_per_page() / 64).unwrap_or(usize::MAX);
        let pages = self.bits.chunks_mut(words_per_page).zip(&mut self.counts);
        // Untouched pages stay untouched, so that they keep costing nothing.
        for (words, count) in pages.filter(|(_, count)| **count > 0) {
            words.fill(0);
            *count = 0;
        }
        self.waiting = 0;
    }

    /// The pages that `range` touches, and the pieces of each that lie in it.
    fn split(&self, range: &GuestRange) -> impl Iterator<Item = (usize, std::ops::Range<u64>)> + use<> {
        let start = (range.start.0 - self.guest.start.0) >> PIECE.shift();
        let end = (range.end() - self.guest.start.0) >> PIECE.shift();
        let whole = self.pieces_per_page();
        (start / whole..end.div_ceil(whole)).filter_map(move |page| {
            let pieces = start.max(page * whole)..end.min((page + 1) * whole);
            Some((usize::try_from(page).ok()?, pieces))
        })
    }

    /// Sets or clears the bits of `pieces` and returns how many changed.
    fn change(&mut self, pieces: std::ops::Range<u64>, set: bool) -> u32 {
        let mut changed = 0;
        let mut next = pieces.start;
        while next < pieces.end {
            let in_word = next % 64;
            let count = (64 - in_word).min(pieces.end - next);
            let mask = (u64::MAX >> (64 - count)) << in_word;
            let word = usize::try_from(next / 64)
                .ok()
                .and_then(|index| self.bits.get_mut(index));
            if let Some(word) = word {
                changed += if set { mask & !*word } else { mask & *word }.count_ones();
                *word = if set { *word | mask } else { *word & !mask };
            }
            next += count;
        }
        changed
    }
}

#[cfg(test)]
mod tests;
