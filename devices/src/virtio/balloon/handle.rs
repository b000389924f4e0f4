//! The user's side of a balloon: set a target, ask what became of it. Nothing here waits for guest or device, except
//! [`BalloonHandle::inhibit`], which waits for a release in progress.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use memory::size::ByteSize;

use super::inhibit::InhibitGuard;
use super::report::{BackendFigures, BalloonCounters, BalloonReport};
use super::shared::Shared;
use super::stats::GuestStats;
use super::{BalloonError, BalloonSpec};

/// Sets and asks a balloon. Clones are the same balloon.
#[derive(Clone, Debug)]
pub struct BalloonHandle {
    shared: Arc<Shared>,
}

impl BalloonHandle {
    pub(super) fn new(shared: Arc<Shared>) -> BalloonHandle {
        BalloonHandle { shared }
    }

    /// The balloon's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.spec.id
    }

    /// Asks that the guest keep `remaining` of its memory; more than it has means all. Returns at once: the guest
    /// follows when it can. A target set before there is a driver, or kept through a reset, awaits the next driver.
    ///
    /// # Errors
    /// When `remaining` is 0, or below the floor.
    pub fn set_target(&self, remaining: ByteSize) -> Result<(), BalloonError> {
        self.shared.set_target(remaining)?;
        self.shared.ring();
        Ok(())
    }

    /// What the guest is asked to keep.
    #[must_use]
    pub fn target(&self) -> ByteSize {
        ByteSize::from_bytes(self.shared.controller().target())
    }

    /// What the guest says it has: RAM less the balloon, never below 0 or above RAM.
    #[must_use]
    pub fn actual(&self) -> ByteSize {
        ByteSize::from_bytes(self.shared.controller().actual())
    }

    /// The least that a target may be.
    #[must_use]
    pub fn floor(&self) -> ByteSize {
        self.shared.spec.min
    }

    /// What the user said about it at first.
    #[must_use]
    pub fn spec(&self) -> &BalloonSpec {
        &self.shared.spec
    }

    /// Whether a driver is there.
    #[must_use]
    pub fn driver_ready(&self) -> bool {
        self.shared.controller().driver()
    }

    /// What the balloon has done so far.
    #[must_use]
    pub fn counters(&self) -> BalloonCounters {
        self.shared.counters()
    }

    /// What of it concerns each backend, in the order of [`memory::ram::Ram::backends`].
    #[must_use]
    pub fn by_backend(&self) -> Vec<BackendFigures> {
        self.shared.by_backend()
    }

    /// Everything about it, at one moment.
    #[must_use]
    pub fn report(&self) -> BalloonReport {
        self.shared.report(Instant::now())
    }

    /// The statistics that the guest sent last, if the driver that is there has sent any.
    #[must_use]
    pub fn stats(&self) -> Option<GuestStats> {
        self.shared.stats().clone()
    }

    /// How often the guest is asked for statistics; zero: only by [`BalloonHandle::request_stats`].
    #[must_use]
    pub fn stats_interval(&self) -> Duration {
        Duration::from_millis(self.shared.stats_interval.load(Ordering::Relaxed))
    }

    /// Asks for statistics every `interval` from now on, in whole milliseconds. Zero stops it.
    pub fn set_stats_interval(&self, interval: Duration) {
        let millis = u64::try_from(interval.as_millis()).unwrap_or(u64::MAX);
        self.shared.stats_interval.store(millis, Ordering::Relaxed);
        self.shared.ring();
    }

    /// Asks the driver for new statistics. [`super::BalloonNews::StatsUpdated`] says that they have come; they never
    /// come from a guest without a driver, or with one that does not know them.
    pub fn request_stats(&self) {
        self.shared.stats_wanted.store(true, Ordering::Relaxed);
        self.shared.ring();
    }

    /// Tells whether the guest runs: one that is stopped does not count as stuck.
    pub fn set_guest_running(&self, running: bool) {
        self.shared.controller().set_running(Instant::now(), running);
        self.shared.ring();
    }

    /// From the return of this on nothing is released, until the guard is dropped; guards add up. The guest may
    /// inflate and report all the same: that memory stays the host's loss and is counted as inhibited.
    #[must_use]
    pub fn inhibit(&self, reason: &str) -> InhibitGuard {
        InhibitGuard::new(Arc::clone(&self.shared), reason)
    }
}

#[cfg(test)]
mod tests;
