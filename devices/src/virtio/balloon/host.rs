//! What goes to the host and comes back from it, with its counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memory::absent::Absent;
use memory::ram::Ram;
use memory::range::GuestRange;
use memory::release::Releaser;

use crate::fault::{Faults, GuestFault};

use super::shared::{Counters, Shared};

/// Over which queue memory came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    Inflate,
    Report,
}

impl Path {
    fn discarded(self, counters: &Counters) -> &AtomicU64 {
        match self {
            Path::Inflate => &counters.discarded,
            Path::Report => &counters.reported,
        }
    }
}

/// The host's side of a balloon.
pub(super) struct Host {
    shared: Arc<Shared>,
    ram: Ram,
    releaser: Releaser,
    /// Huge pages that the host has got.
    absent: Absent,
}

impl Host {
    pub(super) fn new(ram: Ram, shared: Arc<Shared>) -> Host {
        Host {
            shared,
            absent: ram.absent(),
            releaser: Releaser::new(ram.clone()),
            ram,
        }
    }

    /// Gives `ranges` to the host, unless that is inhibited.
    pub(super) fn give(&mut self, ranges: &[GuestRange], path: Path, faults: &Faults) {
        let asked = ranges
            .iter()
            .fold(0, |sum: u64, range| sum.saturating_add(range.len));
        if asked == 0 {
            return;
        }
        let counters = &self.shared.counters;
        let add = |counter: &AtomicU64, bytes| counter.fetch_add(bytes, Ordering::Relaxed);
        let release = || self.releaser.release(ranges);
        let Some(released) = self.shared.inhibitors.unless_forbidden(release) else {
            add(&counters.inhibited, asked);
            return;
        };
        add(path.discarded(counters), released.discarded);
        add(&counters.refused, released.refused);
        add(&counters.failed, released.failed);
        add(&counters.rounded, released.rounded);
        for (sum, bytes) in self.shared.by_backend.iter().zip(self.releaser.discarded()) {
            add(sum, *bytes);
        }
        if released.outside > 0 {
            faults.count(GuestFault::BalloonOutside {
                bytes: released.outside,
            });
        }
        if released.discarded > 0 {
            ranges.iter().for_each(|range| self.absent.insert(*range));
            self.count_unreserved();
        }
    }

    /// Appends to `pages` the huge pages that the host has got and of which `range` has a part.
    pub(super) fn missing(&self, range: GuestRange, pages: &mut Vec<GuestRange>) {
        self.absent.touched(range, pages);
    }

    /// Has the host provide a huge page again. False: it has none.
    pub(super) fn take(&mut self, page: GuestRange) -> bool {
        let provided = self.releaser.populate(page);
        if provided {
            self.absent.remove(page);
            self.count_unreserved();
        }
        provided
    }

    /// Nothing is in the balloon: the host may use transparent huge pages for RAM again.
    pub(super) fn all_in_use(&self) {
        self.ram.all_in_use();
    }

    fn count_unreserved(&self) {
        let unreserved = &self.shared.counters.unreserved;
        unreserved.store(self.absent.unreserved(), Ordering::Relaxed);
    }
}
