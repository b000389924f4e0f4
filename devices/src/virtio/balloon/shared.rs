//! What handle and device share. Its locks are held for moments only, never while memory is released.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use memory::ram::Ram;
use memory::size::ByteSize;
use vmm_sys_util::eventfd::EventFd;

use super::controller::{Controller, Evidence};
use super::inhibit::Inhibitors;
use super::report::{BackendFigures, BalloonCounters, BalloonReport, ReportingState, feature_names};
use super::spec::{BalloonError, BalloonSpec, Reporting};
use super::stats::{GuestStats, Stat};
use super::{F_DEFLATE_ON_OOM, F_PAGE_POISON, F_PAGE_REPORTING};

/// Statistics older than this say nothing about the guest's memory now.
const FRESH: Duration = Duration::from_secs(60);

/// Counters that only the worker changes, in bytes.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) rounded: AtomicU64,
    pub(super) unreserved: AtomicU64,
    pub(super) inhibited: AtomicU64,
    pub(super) poisoned: AtomicU64,
}

/// Those of one backend.
#[derive(Debug, Default)]
pub(super) struct BackendCounters {
    pub(super) inflated: AtomicU64,
    pub(super) discarded: AtomicU64,
    pub(super) reported: AtomicU64,
    pub(super) partial: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) spec: BalloonSpec,
    /// Features of the device.
    pub(super) offered: u64,
    controller: Mutex<Controller>,
    /// Features accepted by the driver that is there now.
    pub(super) accepted: AtomicU64,
    pub(super) poison_val: AtomicU32,
    stats: Mutex<Option<GuestStats>>,
    /// Milliseconds.
    pub(super) stats_interval: AtomicU64,
    pub(super) stats_wanted: AtomicBool,
    pub(super) counters: Counters,
    pub(super) by_backend: Vec<BackendCounters>,
    pub(super) inhibitors: Inhibitors,
    /// The user wants something.
    pub(super) event: EventFd,
}

impl Shared {
    /// # Errors
    /// When the first target cannot be.
    pub(super) fn new(
        spec: BalloonSpec,
        ram: &Ram,
        offered: u64,
        event: EventFd,
    ) -> Result<Shared, BalloonError> {
        let interval = u64::try_from(spec.stats_interval.as_millis()).unwrap_or(u64::MAX);
        let shared = Shared {
            offered,
            controller: Mutex::new(Controller::new(Instant::now(), ram.size().bytes())),
            accepted: AtomicU64::new(0),
            poison_val: AtomicU32::new(0),
            stats: Mutex::new(None),
            stats_interval: AtomicU64::new(interval),
            stats_wanted: AtomicBool::new(false),
            counters: Counters::default(),
            by_backend: ram
                .backends()
                .iter()
                .map(|_| BackendCounters::default())
                .collect(),
            inhibitors: Inhibitors::default(),
            event,
            spec,
        };
        shared
            .spec
            .initial
            .map_or(Ok(()), |initial| shared.set_target(initial))?;
        Ok(shared)
    }

    pub(super) fn controller(&self) -> MutexGuard<'_, Controller> {
        self.controller.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stats(&self) -> MutexGuard<'_, Option<GuestStats>> {
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the worker.
    pub(super) fn ring(&self) {
        // A counter that is full has been rung enough.
        let _ = self.event.write(1);
    }

    pub(super) fn set_target(&self, remaining: ByteSize) -> Result<(), BalloonError> {
        let id = || self.spec.id.clone();
        if remaining == ByteSize::ZERO {
            return Err(BalloonError::SetTarget { id: id() });
        }
        if remaining < self.spec.min {
            return Err(BalloonError::BelowFloor {
                id: id(),
                floor: self.spec.min,
                wanted: remaining,
            });
        }
        self.controller().set_target(Instant::now(), remaining.bytes());
        Ok(())
    }

    pub(super) fn counters(&self) -> BalloonCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        let backends = self.by_backend();
        let sum = |figure: fn(&BackendFigures) -> u64| backends.iter().map(figure).sum();
        BalloonCounters {
            inflated: self.controller().claimed(),
            discarded: sum(|backend| backend.discarded),
            reported: sum(|backend| backend.reported),
            partial: sum(|backend| backend.partial),
            refused: read(&counters.refused),
            failed: read(&counters.failed),
            rounded: read(&counters.rounded),
            unreserved: read(&counters.unreserved),
            inhibited: read(&counters.inhibited),
            poisoned: read(&counters.poisoned),
        }
    }

    pub(super) fn by_backend(&self) -> Vec<BackendFigures> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let figures = |counters: &BackendCounters| BackendFigures {
            inflated: read(&counters.inflated),
            discarded: read(&counters.discarded),
            reported: read(&counters.reported),
            partial: read(&counters.partial),
        };
        self.by_backend.iter().map(figures).collect()
    }

    /// What is known about the reason of a stall.
    pub(super) fn evidence(&self) -> Evidence {
        let stats = self.stats();
        let fresh = stats.as_ref().filter(|stats| stats.age() < FRESH);
        let available = |stats: &GuestStats| stats.get(Stat::AvailableMemory).or(stats.get(Stat::FreeMemory));
        Evidence {
            deflate_on_oom: self.accepted(F_DEFLATE_ON_OOM),
            available: fresh.and_then(available),
        }
    }

    /// Whether the driver that is there has accepted `feature`.
    pub(super) fn accepted(&self, feature: u64) -> bool {
        self.accepted.load(Ordering::Relaxed) & feature != 0
    }

    /// What the guest fills its free pages with, where it said so.
    pub(super) fn poison(&self) -> Option<u32> {
        let value = self.poison_val.load(Ordering::Relaxed);
        self.accepted(F_PAGE_POISON).then_some(value)
    }

    pub(super) fn report(&self, now: Instant) -> BalloonReport {
        let evidence = self.evidence();
        let inhibitors = self.inhibitors.list();
        let counters = self.counters();
        let controller = self.controller();
        BalloonReport {
            state: controller.state(now),
            target: ByteSize::from_bytes(controller.target()),
            actual: ByteSize::from_bytes(controller.actual()),
            floor: self.spec.min,
            rate: controller.rate(now),
            eta: controller.eta(now),
            counters,
            offered: feature_names(self.offered),
            accepted: feature_names(self.accepted.load(Ordering::Relaxed)),
            reporting: self.reporting(&inhibitors),
            poison_val: self.poison(),
            inhibitors,
            stall: controller.stall(now, &evidence),
        }
    }

    fn reporting(&self, inhibitors: &[(String, u32)]) -> ReportingState {
        if let Reporting::Off(reason) = &self.spec.reporting {
            return ReportingState::Off(reason.clone());
        }
        if !self.accepted(F_PAGE_REPORTING) {
            return ReportingState::NotNegotiated;
        }
        if let Some(value) = self.poison().filter(|value| *value != 0) {
            let text = format!("the guest fills its free pages with {value:#x}");
            return ReportingState::Off(text);
        }
        match inhibitors {
            [] => ReportingState::On,
            [(reason, _), ..] => ReportingState::Off(format!("inhibited: {reason}")),
        }
    }
}
