//! What the page table of a mapping has: how much, in huge pages or not, and on which nodes.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;

use crate::mapping::Mapping;
use crate::pagemap::{Pagemap, Pages};
use crate::picks::Picks;
use crate::size::{ByteSize, PageSize};
use crate::sys;

/// Base pages whose nodes are all asked for, in one sample of all backends: 64 MiB. To ask for a page's node costs thirty times
/// as much as to find that it is there.
const ALL_BASE: usize = 16384;
/// How many are asked for where there are more.
const SOME_BASE: usize = 4096;
/// Huge pages of any kind whose nodes are asked for: all of 16 GiB.
const HUGE: usize = 8192;

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Walk {
    /// Bytes that are mapped.
    mapped: u64,
    /// Of them in transparent huge pages.
    transparent_huge: u64,
    nodes: BTreeMap<u32, OnNode>,
    doubt: u64,
}

/// Bytes on one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OnNode {
    pub(super) bytes: u64,
    /// Of them in transparent huge pages, where that is known.
    pub(super) transparent_huge: Option<u64>,
}

impl Walk {
    /// What is mapped, and where it lies. `sharers`: how many mappings have part in the time that one sample may cost.
    ///
    /// # Errors
    /// `ENOTTY` before Linux 6.7.
    pub(super) fn take(
        pagemap: &Pagemap,
        mapping: &Mapping,
        page: PageSize,
        sharers: usize,
    ) -> io::Result<Self> {
        let part = |picks: usize| picks / sharers.clamp(1, 32);
        let base = Picks::new(part(ALL_BASE), part(SOME_BASE));
        let mut seen = Seen::new(page, base, Picks::new(part(HUGE), part(HUGE)));
        pagemap.scan(mapping, |pages| seen.show(pages))?;
        seen.walk()
    }

    /// The same of a file in memory that is said to hold `held` bytes in base pages, without a look at which are mapped: places
    /// all over the mapping are asked for their nodes. `None` where they are too few to tell from: little memory, or a mapping
    /// that is half empty.
    ///
    /// # Errors
    /// What move_pages(2) says.
    pub(super) fn guess(mapping: &Mapping, held: ByteSize, sharers: usize) -> io::Result<Option<Self>> {
        let part = |picks: usize| picks / sharers.clamp(1, 32);
        let (pages, places) = (held.pages(PageSize::BASE), part(SOME_BASE));
        if pages <= part(ALL_BASE) as u64 {
            return Ok(None);
        }
        let mut kind = Kind::new(PageSize::BASE, Picks::new(places, places));
        let all = mapping.len() / kind.page;
        kind.picks.show(mapping.address(), kind.page, all);
        kind.pages = pages;
        let found = kind.places()?.nodes;
        let count: u64 = found.values().sum();
        if 2 * count < kind.picks.addresses().len() as u64 {
            return Ok(None);
        }
        let scaled = found
            .iter()
            .map(|(node, picks)| (*node, kind.scale(*picks, count)));
        let mut walk = Self::told(held.bytes(), 0, scaled.collect());
        for node in walk.nodes.values_mut() {
            node.transparent_huge = Some(0);
        }
        walk.doubt = kind.doubt();
        Ok(Some(walk))
    }

    /// Only what is mapped.
    ///
    /// # Errors
    /// As [`Walk::take`].
    pub(super) fn count(pagemap: &Pagemap, mapping: &Mapping, page: PageSize) -> io::Result<Self> {
        // As few base pages as there can be; of the huge ones it has to be known which are the page of zeroes.
        let mut seen = Seen::new(page, Picks::new(0, 0), Picks::new(HUGE, HUGE));
        pagemap.scan(mapping, |pages| seen.show(pages))?;
        seen.walk()
    }

    /// What others have counted.
    pub(super) fn told(mapped: u64, transparent_huge: u64, nodes: BTreeMap<u32, u64>) -> Self {
        let on_node = |(node, bytes)| {
            let on_node = OnNode {
                bytes,
                transparent_huge: None,
            };
            (node, on_node)
        };
        Self {
            mapped,
            transparent_huge,
            nodes: nodes.into_iter().map(on_node).collect(),
            doubt: 0,
        }
    }

    pub(super) fn mapped(&self) -> ByteSize {
        ByteSize::from_bytes(self.mapped)
    }

    pub(super) fn transparent_huge(&self) -> ByteSize {
        ByteSize::from_bytes(self.transparent_huge)
    }

    pub(super) fn nodes(&self) -> &BTreeMap<u32, OnNode> {
        &self.nodes
    }

    /// By how many bytes a node's figure may be wrong: four standard deviations. 0: all pages were asked for.
    pub(super) fn doubt(&self) -> u64 {
        self.doubt
    }
}

/// Pages of one size.
#[derive(Debug)]
struct Kind {
    page: u64,
    pages: u64,
    picks: Picks,
}

impl Kind {
    fn new(page: PageSize, picks: Picks) -> Self {
        Self {
            page: page.bytes(),
            pages: 0,
            picks,
        }
    }

    fn show(&mut self, range: &Range<u64>) {
        let pages = (range.end - range.start) / self.page;
        self.pages += pages;
        self.picks.show(range.start, self.page, pages);
    }

    fn bytes(&self) -> u64 {
        self.pages * self.page
    }

    /// Where the pages are.
    fn places(&self) -> io::Result<Places> {
        let nodes = match sys::nodes_of(self.picks.addresses()) {
            Ok(nodes) => nodes,
            // A kernel without NUMA.
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => return Ok(Places::default()),
            Err(error) => return Err(error),
        };
        let mut places = Places {
            asked: nodes.len() as u64,
            ..Places::default()
        };
        for node in nodes {
            match u32::try_from(node) {
                Ok(node) => *places.nodes.entry(node).or_default() += 1,
                Err(_) if node == -libc::EFAULT => places.zero += 1,
                // Gone since the walk.
                Err(_) => {}
            }
        }
        Ok(places)
    }

    /// The bytes that `picks` of `asked` stand for. Where all pages were asked, those found are what there is.
    fn scale(&self, picks: u64, asked: u64) -> u64 {
        if self.picks.stretch() == 1 {
            return picks * self.page;
        }
        let pages = u128::from(self.pages) * u128::from(picks) / u128::from(asked.max(1));
        u64::try_from(pages).unwrap_or(u64::MAX).saturating_mul(self.page)
    }

    /// By how many bytes an estimate may be wrong. Of n pages, each chosen in its own stretch, the share on a node has a
    /// standard deviation of at most sqrt(n)/2 pages.
    fn doubt(&self) -> u64 {
        if self.picks.stretch() == 1 {
            return 0;
        }
        let chosen = self.picks.addresses().len() as u64;
        (2 * chosen.isqrt() * self.picks.stretch()).saturating_mul(self.page)
    }
}

/// Where some pages are.
#[derive(Debug, Default)]
struct Places {
    asked: u64,
    nodes: BTreeMap<u32, u64>,
    /// The huge page of zeroes. Some kernels do not tell it from others in a scan.
    zero: u64,
}

/// What a scan has shown so far.
#[derive(Debug)]
struct Seen {
    hugetlb: bool,
    /// Base pages, none for hugetlb.
    base: Kind,
    /// Pages of hugetlb, or transparent huge pages.
    huge: Kind,
}

impl Seen {
    fn new(page: PageSize, base: Picks, huge: Picks) -> Self {
        Self {
            hugetlb: page.is_huge(),
            base: Kind::new(PageSize::BASE, base),
            huge: Kind::new(page.max(PageSize::HUGE_2M), huge),
        }
    }

    fn show(&mut self, pages: &Pages) {
        match pages.huge {
            true => self.huge.show(&pages.range),
            false => self.base.show(&pages.range),
        }
    }

    fn walk(&self) -> io::Result<Walk> {
        let (base, huge) = (self.base.places()?, self.huge.places()?);
        let zeroes = self.huge.scale(huge.zero, huge.asked);
        let huge_bytes = self.huge.bytes().saturating_sub(zeroes);
        let mut walk = Walk {
            mapped: self.base.bytes() + huge_bytes,
            transparent_huge: if self.hugetlb { 0 } else { huge_bytes },
            nodes: BTreeMap::new(),
            doubt: self.base.doubt() + self.huge.doubt(),
        };
        let found = base.nodes.values().sum();
        for (node, picks) in base.nodes {
            let on_node = walk.nodes.entry(node).or_default();
            on_node.bytes += self.base.scale(picks, found);
            on_node.transparent_huge.get_or_insert(0);
        }
        for (node, picks) in huge.nodes {
            let on_node = walk.nodes.entry(node).or_default();
            let bytes = self.huge.scale(picks, huge.asked);
            on_node.bytes += bytes;
            *on_node.transparent_huge.get_or_insert(0) += if self.hugetlb { 0 } else { bytes };
        }
        Ok(walk)
    }
}
