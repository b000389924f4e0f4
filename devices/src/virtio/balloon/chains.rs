//! What is in the chains of each queue. Bounded, whatever the driver describes.

use memory::range::{GuestRange, Pfn};
use virtio_queue::desc::split::Descriptor;
use vm_memory::Bytes;

use crate::fault::{Faults, GuestFault};

use super::super::Memory;
use super::super::queue::Chain;
use super::stats;

/// Page numbers that one descriptor may carry: what Linux sends at most.
pub(super) const MAX_PFNS: usize = 256;
/// Bytes of a page number.
const PFN_BYTES: usize = 4;
/// Bytes that one kick may report. Linux reports 32 blocks of at most 4 MiB.
pub(super) const MAX_REPORTED: u64 = 1 << 30;

/// How many descriptors may still be looked at: all chains of a queue together cannot have more than the queue has,
/// unless some share them, and then the work ends here.
pub(super) struct Budget {
    descriptors: u16,
    /// Bytes of reported pages that may still come.
    reported: u64,
}

impl Budget {
    /// For one kick of a queue of `size`.
    pub(super) fn new(size: u16) -> Budget {
        Budget {
            descriptors: size,
            reported: MAX_REPORTED,
        }
    }

    /// The next descriptor, unless the budget is used up.
    fn next(&mut self, chain: &mut Chain<'_>) -> Option<Descriptor> {
        let left = self.descriptors.checked_sub(1)?;
        let descriptor = chain.next()?;
        self.descriptors = left;
        Some(descriptor)
    }
}

/// Appends a chain's page numbers to `pfns`. Returns whether the whole chain was understood.
pub(super) fn read_pfns(
    memory: &Memory,
    mut chain: Chain<'_>,
    budget: &mut Budget,
    pfns: &mut Vec<Pfn>,
    faults: &Faults,
) -> bool {
    let mut understood = true;
    while let Some(descriptor) = budget.next(&mut chain) {
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

/// Appends the free pages that a chain reports to `ranges`: its buffers are the pages (virtio 1.3, §5.5.6.7). Returns
/// whether the whole chain was understood.
pub(super) fn read_report(
    mut chain: Chain<'_>,
    budget: &mut Budget,
    ranges: &mut Vec<GuestRange>,
    faults: &Faults,
) -> bool {
    let mut understood = true;
    while let Some(descriptor) = budget.next(&mut chain) {
        // What the device may not write into, it may not discard.
        if !descriptor.is_write_only() {
            understood = false;
            continue;
        }
        let length = descriptor.len();
        match budget.reported.checked_sub(u64::from(length)) {
            Some(left) => {
                budget.reported = left;
                ranges.push(GuestRange::new(descriptor.addr(), u64::from(length)));
            }
            None => {
                faults.count(GuestFault::BalloonReport { length });
                understood = false;
            }
        }
    }
    understood && !chain.is_broken()
}

/// Reads the bytes of a chain of statistics, however they are split, and returns them with whether the whole chain was
/// understood.
pub(super) fn read_stats<'a>(
    memory: &Memory,
    mut chain: Chain<'_>,
    budget: &mut Budget,
    buffer: &'a mut [u8; stats::MAX_BYTES],
    faults: &Faults,
) -> (&'a [u8], bool) {
    let (mut filled, mut understood) = (0, true);
    while let Some(descriptor) = budget.next(&mut chain) {
        let length = descriptor.len();
        let room = &mut buffer[filled..];
        let part = usize::try_from(length)
            .ok()
            .and_then(|length| room.get_mut(..length));
        let Some(part) = part else {
            faults.count(GuestFault::BalloonStats { length });
            understood = false;
            continue;
        };
        if descriptor.is_write_only() || memory.read_slice(part, descriptor.addr()).is_err() {
            understood = false;
            continue;
        }
        filled += part.len();
    }
    (&buffer[..filled], understood && !chain.is_broken())
}
