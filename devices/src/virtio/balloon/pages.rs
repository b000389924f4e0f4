//! From descriptors to released memory: page numbers are collected over all chains, merged into ranges, and released
//! at once; only then do the chains go back to the driver.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use memory::partial::Partial;
use memory::ram::Ram;
use memory::range::{GuestRange, Pfn, merge_pfns};
use vm_memory::Bytes;

use crate::fault::{Faults, GuestFault};

use super::super::Memory;
use super::super::queue::{Chain, QueueError, VirtQueue};
use super::shared::Shared;

/// Page numbers that one descriptor may carry: what Linux sends at most.
pub(super) const MAX_PFNS: usize = 256;
/// Bytes of a page number.
const PFN_BYTES: usize = 4;

/// Pages on their way. The vectors are kept for their capacity: once warmed up, a kick allocates nothing.
pub(super) struct Pages {
    ram: Ram,
    shared: Arc<Shared>,
    /// Pieces of large backing pages that are in the balloon.
    partial: Partial,
    /// The driver tells us before it takes pages back, so `partial` holds from one kick to the next.
    must_tell_host: bool,
    heads: Vec<u16>,
    pfns: Vec<Pfn>,
    ranges: Vec<GuestRange>,
    complete: Vec<GuestRange>,
}

impl Pages {
    pub(super) fn new(ram: Ram, shared: Arc<Shared>) -> Pages {
        Pages {
            partial: ram.partial(),
            ram,
            shared,
            must_tell_host: false,
            heads: Vec::new(),
            pfns: Vec::new(),
            ranges: Vec::new(),
            complete: Vec::new(),
        }
    }

    /// What the driver has agreed to.
    pub(super) fn set_must_tell_host(&mut self, agreed: bool) {
        self.must_tell_host = agreed;
    }

    /// The driver is gone: nothing is in the balloon.
    pub(super) fn reset(&mut self) {
        self.must_tell_host = false;
        self.forget();
        self.all_in_use();
    }

    /// Nothing is in the balloon: the host may use transparent huge pages for RAM again.
    pub(super) fn all_in_use(&self) {
        self.ram.all_in_use();
    }

    /// Serves the deflate queue: the driver takes pages back.
    pub(super) fn deflate(
        &mut self,
        memory: &Memory,
        queue: &mut VirtQueue,
        faults: &Faults,
    ) -> Result<(), QueueError> {
        let understood = self.collect(memory, queue, faults)?;
        if understood {
            merge_pfns(&mut self.pfns, &mut self.ranges);
            for range in &self.ranges {
                self.partial.remove(*range);
            }
            self.shared
                .counters
                .partial
                .store(self.partial.bytes(), Ordering::Relaxed);
        } else {
            // Some page is the guest's again, and we do not know which: no large page may count as complete.
            self.forget();
        }
        self.give_back(memory, queue)
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
        if self.must_tell_host {
            self.shared
                .counters
                .partial
                .store(self.partial.bytes(), Ordering::Relaxed);
        } else {
            // Once the chains are back, the driver may use any of these pages again without a word.
            for range in &self.ranges {
                self.partial.remove(*range);
            }
        }
        if !self.complete.is_empty() {
            let released = self.ram.release(&self.complete);
            self.shared
                .counters
                .discarded
                .fetch_add(released.discarded, Ordering::Relaxed);
            self.shared
                .counters
                .refused
                .fetch_add(released.refused, Ordering::Relaxed);
            self.shared
                .counters
                .failed
                .fetch_add(released.failed, Ordering::Relaxed);
            if released.outside > 0 {
                faults.count(GuestFault::BalloonOutside {
                    bytes: released.outside,
                });
            }
        }
        self.give_back(memory, queue)
    }

    /// Room in the vectors, to show that they do not grow.
    #[cfg(test)]
    pub(super) fn capacities(&self) -> [usize; 4] {
        [
            self.heads.capacity(),
            self.pfns.capacity(),
            self.ranges.capacity(),
            self.complete.capacity(),
        ]
    }

    fn forget(&mut self) {
        self.partial.clear();
        self.shared.counters.partial.store(0, Ordering::Relaxed);
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
        let (index, mut budget) = (queue.index(), queue.size());
        let mut understood = true;
        for chain in queue.available(memory)? {
            self.heads.push(chain.head());
            if !read_chain(memory, chain, &mut budget, &mut self.pfns, faults) {
                faults.count(GuestFault::VirtioChain { queue: index });
                understood = false;
            }
        }
        Ok(understood)
    }

    /// Returns the collected chains. One that cannot be returned does not keep the others.
    fn give_back(&mut self, memory: &Memory, queue: &mut VirtQueue) -> Result<(), QueueError> {
        let mut result = Ok(());
        for head in self.heads.drain(..) {
            // Length 0: the device writes into none of the driver's buffers.
            result = result.and(queue.add_used(memory, head, 0));
        }
        result
    }
}

/// Appends a chain's page numbers to `pfns`. Returns whether the whole chain was understood.
///
/// `budget` is how many descriptors may still be looked at: all chains of a queue together cannot have more than the
/// queue has, unless some share them, and then the work ends here.
fn read_chain(
    memory: &Memory,
    mut chain: Chain<'_>,
    budget: &mut u16,
    pfns: &mut Vec<Pfn>,
    faults: &Faults,
) -> bool {
    let mut understood = true;
    while *budget > 0 {
        let Some(descriptor) = chain.next() else { break };
        *budget -= 1;
        let length = descriptor.len();
        let bytes = usize::try_from(length).unwrap_or(usize::MAX);
        if bytes > MAX_PFNS * PFN_BYTES || !bytes.is_multiple_of(PFN_BYTES) {
            faults.count(GuestFault::BalloonLength { length });
            understood = false;
            continue;
        }
        let mut buffer = [0; MAX_PFNS * PFN_BYTES];
        let buffer = &mut buffer[..bytes];
        // A buffer for the device to write into carries no page numbers.
        if descriptor.is_write_only() || memory.read_slice(buffer, descriptor.addr()).is_err() {
            understood = false;
            continue;
        }
        let (numbers, _) = buffer.as_chunks::<PFN_BYTES>();
        pfns.extend(numbers.iter().map(|number| Pfn(u32::from_le_bytes(*number))));
    }
    understood && !chain.is_broken()
}
