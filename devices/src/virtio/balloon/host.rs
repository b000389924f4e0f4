//! What goes to the host and comes back from it, with its counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memory::absent::Absent;
use memory::partial::Partial;
use memory::ram::Ram;
use memory::range::GuestRange;
use memory::release::{Reason, Releaser};

use crate::fault::{Faults, GuestFault};

use super::shared::{BackendCounters, Shared};

/// Over which queue memory came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    Inflate,
    Report,
}

impl Path {
    fn discarded(self, counters: &BackendCounters) -> &AtomicU64 {
        match self {
            Path::Inflate => &counters.discarded,
            Path::Report => &counters.reported,
        }
    }

    fn reason(self) -> Reason {
        match self {
            Path::Inflate => Reason::Inflated,
            Path::Report => Reason::Reported,
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
        let release = || self.releaser.release(ranges, path.reason());
        let Some(released) = self.shared.inhibitors.unless_forbidden(release) else {
            add(&counters.inhibited, asked);
            return;
        };
        add(&counters.refused, released.refused);
        add(&counters.failed, released.failed);
        add(&counters.rounded, released.rounded);
        for (backend, bytes) in self.shared.by_backend.iter().zip(self.releaser.discarded()) {
            add(path.discarded(backend), *bytes);
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

    /// Counts pages that the driver put into the balloon, by backend. What is not RAM belongs to none.
    pub(super) fn count_inflated(&self, ranges: &[GuestRange]) {
        self.recount(ranges, u64::saturating_add);
    }

    /// Counts pages that the driver took out of it.
    pub(super) fn count_deflated(&self, ranges: &[GuestRange]) {
        self.recount(ranges, u64::saturating_sub);
    }

    fn recount(&self, ranges: &[GuestRange], change: fn(u64, u64) -> u64) {
        for region in self.ram.regions() {
            let parts = ranges
                .iter()
                .filter_map(|range| region.guest().intersection(range));
            let bytes = parts.map(|part| part.len).sum();
            let inflated = &self.shared.by_backend[region.backend()].inflated;
            let changed = change(inflated.load(Ordering::Relaxed), bytes);
            // A driver may give the same page twice.
            let size = self.ram.backends()[region.backend()].size().bytes();
            inflated.store(changed.min(size), Ordering::Relaxed);
        }
    }

    /// Counts the pieces that wait, by backend.
    pub(super) fn count_partial(&self, partial: &Partial) {
        for (index, backend) in self.shared.by_backend.iter().enumerate() {
            let regions = self.ram.regions().iter();
            let regions = regions.filter(|region| region.backend() == index);
            let bytes = regions.map(|region| partial.bytes(region.guest())).sum();
            backend.partial.store(bytes, Ordering::Relaxed);
        }
    }

    /// The driver is gone, and with it what was in the balloon.
    pub(super) fn forget(&self) {
        for backend in &self.shared.by_backend {
            backend.inflated.store(0, Ordering::Relaxed);
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
