//! From descriptors to released memory: pages are collected over all chains, merged into ranges, and released at once;
//! only then do the chains go back to the driver.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use memory::partial::Partial;
use memory::ram::Ram;
use memory::range::{GuestRange, Pfn, merge_pfns};

use crate::fault::{Faults, GuestFault};

use super::super::Memory;
use super::super::queue::{QueueError, VirtQueue};
use super::chains::{Budget, read_pfns, read_report};
use super::host::{Host, Path};
use super::shared::Shared;

/// How often the host is asked again for a huge page that it did not have.
const RETRY: Duration = Duration::from_millis(200);
/// Bytes of huge pages that are taken from the host before the worker looks after its other duties.
const AT_ONCE: u64 = 256 << 20;

/// Pages on their way. The vectors are kept for their capacity: once warmed up, a kick allocates nothing.
pub(super) struct Pages {
    shared: Arc<Shared>,
    host: Host,
    /// Pieces of large backing pages that are in the balloon.
    partial: Partial,
    /// The driver tells us before it takes pages back, so `partial` holds from one kick to the next.
    must_tell_host: bool,
    heads: Vec<u16>,
    pfns: Vec<Pfn>,
    ranges: Vec<GuestRange>,
    complete: Vec<GuestRange>,
    deflate: Deflate,
}

/// A deflate whose chains go back when the huge pages behind its pages are there again: until then the driver may not
/// use them, and after that it need not wait for one.
#[derive(Default)]
struct Deflate {
    heads: Vec<u16>,
    /// Huge pages that are still to come.
    pages: Vec<GuestRange>,
    /// When to go on.
    resume: Option<Instant>,
}

/// How far the host has provided the pages of a deflate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Supply {
    All,
    /// There are more to take, after other work.
    More,
    /// The host has none.
    Short,
}

impl Pages {
    pub(super) fn new(ram: Ram, shared: Arc<Shared>) -> Pages {
        Pages {
            partial: ram.partial(),
            host: Host::new(ram, Arc::clone(&shared)),
            shared,
            must_tell_host: false,
            heads: Vec::new(),
            pfns: Vec::new(),
            ranges: Vec::new(),
            complete: Vec::new(),
            deflate: Deflate::default(),
        }
    }

    /// What the driver has agreed to.
    pub(super) fn set_must_tell_host(&mut self, agreed: bool) {
        self.must_tell_host = agreed;
    }

    /// The driver is gone: nothing is in the balloon.
    pub(super) fn reset(&mut self) {
        self.must_tell_host = false;
        self.deflate.heads.clear();
        self.deflate.pages.clear();
        self.deflate.resume = None;
        self.forget();
        self.host.forget();
        self.all_in_use();
    }

    /// Nothing is in the balloon: the host may use transparent huge pages for RAM again.
    pub(super) fn all_in_use(&self) {
        self.host.all_in_use();
    }

    /// When [`Pages::deflate`] wants to be called although nobody kicks.
    pub(super) fn next_timer(&self) -> Option<Instant> {
        self.deflate.resume
    }

    /// That moment has come.
    pub(super) fn timer(&mut self, now: Instant) {
        self.deflate.resume = self.deflate.resume.filter(|resume| *resume > now);
    }

    /// Serves the deflate queue: the driver takes pages back. Returns whether it has to wait for pages that the host does
    /// not have.
    pub(super) fn deflate(
        &mut self,
        memory: &Memory,
        queue: &mut VirtQueue,
        faults: &Faults,
    ) -> Result<bool, QueueError> {
        // One deflate at a time: what comes meanwhile stays in the ring.
        let waited = !self.deflate.pages.is_empty();
        if !waited {
            self.begin_deflate(memory, queue, faults)?;
        }
        let pause = match self.provide() {
            Supply::All => None,
            Supply::More => Some(Duration::ZERO),
            Supply::Short => Some(RETRY),
        };
        // A driver that need not tell us may be using the pages already.
        if let Some(pause) = pause.filter(|_| self.must_tell_host) {
            self.deflate.resume = Some(Instant::now() + pause);
            return Ok(pause > Duration::ZERO);
        }
        self.deflate.pages.clear();
        self.deflate.resume = None;
        give_back(memory, queue, &mut self.deflate.heads)?;
        if waited {
            // What came meanwhile was seen and left: nobody rings for it again. A counter that is full rings as well.
            let _ = self.shared.event.write(1);
        }
        Ok(false)
    }

    /// Serves the inflate queue: the driver gives pages.
    pub(super) fn inflate(
        &mut self,
        memory: &Memory,
        queue: &mut VirtQueue,
        faults: &Faults,
    ) -> Result<(), QueueError> {
        self.collect(memory, queue, faults)?;
        merge_pfns(&mut self.pfns, &mut self.ranges);
        self.complete.clear();
        for range in &self.ranges {
            self.partial.insert(*range, &mut self.complete);
        }
        self.host.count_inflated(&self.ranges);
        if self.must_tell_host {
            self.host.count_partial(&self.partial);
        } else {
            // Once the chains are back, the driver may use any of these pages again without a word.
            for range in &self.ranges {
                self.partial.remove(*range);
            }
        }
        self.host.give(&self.complete, Path::Inflate, faults);
        give_back(memory, queue, &mut self.heads)
    }

    /// Serves the reporting queue: the driver does not use these pages, until it has the chains back.
    pub(super) fn report(
        &mut self,
        memory: &Memory,
        queue: &mut VirtQueue,
        faults: &Faults,
    ) -> Result<(), QueueError> {
        self.heads.clear();
        self.ranges.clear();
        let (index, mut budget) = (queue.index(), Budget::new(queue.size()));
        for chain in queue.available(memory)? {
            self.heads.push(chain.head());
            if !read_report(chain, &mut budget, &mut self.ranges, faults) {
                faults.count(GuestFault::VirtioChain { queue: index });
            }
        }
        if self.shared.poison().is_some_and(|value| value != 0) {
            // The guest expects to find its poison there, and a released page reads as zeroes.
            let bytes = self.ranges.iter().map(|range| range.len).sum();
            self.shared.counters.poisoned.fetch_add(bytes, Ordering::Relaxed);
        } else {
            // Not through `partial`: pages that come back untold must not complete a huge page.
            self.host.give(&self.ranges, Path::Report, faults);
        }
        give_back(memory, queue, &mut self.heads)
    }

    /// Reads the deflate queue. From here on none of its pages is in the balloon.
    fn begin_deflate(
        &mut self,
        memory: &Memory,
        queue: &mut VirtQueue,
        faults: &Faults,
    ) -> Result<(), QueueError> {
        let understood = self.collect(memory, queue, faults)?;
        std::mem::swap(&mut self.heads, &mut self.deflate.heads);
        merge_pfns(&mut self.pfns, &mut self.ranges);
        for range in &self.ranges {
            self.partial.remove(*range);
            self.host.missing(*range, &mut self.deflate.pages);
        }
        self.host.count_deflated(&self.ranges);
        // Neighbours in the list may be parts of the same huge page.
        self.deflate.pages.dedup();
        if understood {
            self.host.count_partial(&self.partial);
        } else {
            // Some page is the guest's again, and we do not know which: no large page may count as complete.
            self.forget();
        }
        Ok(())
    }

    /// Takes the pages of the deflate from the host.
    fn provide(&mut self) -> Supply {
        let mut taken = 0;
        while let Some(page) = self.deflate.pages.last() {
            if taken >= AT_ONCE {
                return Supply::More;
            }
            if !self.host.take(*page) {
                return Supply::Short;
            }
            taken += page.len;
            self.deflate.pages.pop();
        }
        Supply::All
    }

    fn forget(&mut self) {
        self.partial.clear();
        self.host.count_partial(&self.partial);
    }

    /// Collects heads and page numbers of every chain that is available. Returns whether all of them were understood;
    /// a chain that was not has its readable page numbers collected, and is returned like any other.
    fn collect(
        &mut self,
        memory: &Memory,
        queue: &mut VirtQueue,
        faults: &Faults,
    ) -> Result<bool, QueueError> {
        self.heads.clear();
        self.pfns.clear();
        let (index, mut budget) = (queue.index(), Budget::new(queue.size()));
        let mut understood = true;
        for chain in queue.available(memory)? {
            self.heads.push(chain.head());
            if !read_pfns(memory, chain, &mut budget, &mut self.pfns, faults) {
                faults.count(GuestFault::VirtioChain { queue: index });
                understood = false;
            }
        }
        Ok(understood)
    }
}

/// Returns chains to the driver. One that cannot be returned does not keep the others.
pub(super) fn give_back(
    memory: &Memory,
    queue: &mut VirtQueue,
    heads: &mut Vec<u16>,
) -> Result<(), QueueError> {
    let mut result = Ok(());
    for head in heads.drain(..) {
        // Length 0: the device writes into none of the driver's buffers.
        result = result.and(queue.add_used(memory, head, 0));
    }
    result
}
