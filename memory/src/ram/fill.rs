//! Providing the pages of a backend beside its guest, which runs: what the guest gave back stays given.

use std::error::Error;
use std::fmt;
use std::io;
use std::iter;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::refusal::prealloc_error;
use super::{Misplaced, OpenBackend, Opened, Ram, RamError};
use crate::backend::Prealloc;
use crate::prealloc::{self, Failure, Job, Meter};
use crate::size::ByteSize;

/// How the preallocation of a backend stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreallocReport {
    /// The backend.
    pub id: String,
    /// What became of it.
    pub state: PreallocState,
    /// The size of the backend.
    pub size: ByteSize,
    /// What was provided, or was there already.
    pub populated: ByteSize,
    /// What was left out because the guest had given some of it back.
    pub skipped: ByteSize,
    /// How long it took so far, or in all.
    pub elapsed: Duration,
}

/// What became of a preallocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PreallocState {
    /// There was none.
    None,
    /// It goes on.
    Running,
    /// It came to its end.
    Done,
    /// It came to its end, and pages lie where the policy does not want them; the text says which.
    Misplaced(String),
    /// Somebody stopped it.
    Cancelled,
    /// A page could not be had; the text says where, why, and what to do.
    Failed(String),
}

impl PreallocState {
    /// With the error and what caused it.
    pub(super) fn failed(error: &RamError) -> Self {
        let causes = iter::successors(error.source(), |cause| (**cause).source());
        Self::Failed(causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}")))
    }

    /// What went wrong, where something did.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        match self {
            Self::Misplaced(text) | Self::Failed(text) => Some(text),
            Self::None | Self::Running | Self::Done | Self::Cancelled => None,
        }
    }
}

impl PreallocReport {
    /// Bytes a second since it began.
    #[must_use]
    pub fn rate(&self) -> u64 {
        let micros = self.elapsed.as_micros().max(1);
        u64::try_from(u128::from(self.populated.bytes()) * 1_000_000 / micros).unwrap_or(u64::MAX)
    }

    /// How long the rest will take at this rate; `None` when it does not go on, or has not begun to move.
    #[must_use]
    pub fn eta(&self) -> Option<Duration> {
        let done = self.populated.bytes() + self.skipped.bytes();
        let rest = self.size.bytes().saturating_sub(done);
        if self.state != PreallocState::Running || done == 0 {
            return None;
        }
        let micros = self.elapsed.as_micros() * u128::from(rest) / u128::from(done);
        Some(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }
}

/// Who is told when a preallocation ends.
pub type PreallocListener = Arc<dyn Fn(PreallocReport) + Send + Sync>;

/// The state of one backend's preallocation.
#[derive(Default)]
pub(super) struct Filling {
    meter: Meter,
    phase: Mutex<Phase>,
    listener: OnceLock<PreallocListener>,
}

#[derive(Clone, Debug, Default)]
enum Phase {
    #[default]
    None,
    Running(Instant),
    Ended(PreallocState, Duration),
}

impl Filling {
    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    /// `listener` is told of each end. The first one stays.
    pub(super) fn listen(&self, listener: &PreallocListener) {
        let _ = self.listener.set(Arc::clone(listener));
    }

    /// Whether it goes on from here; false: it did already.
    pub(super) fn begin(&self) -> bool {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(*phase, Phase::Running(_)) {
            return false;
        }
        *phase = Phase::Running(Instant::now());
        self.meter.reset();
        true
    }

    pub(super) fn end(&self, state: PreallocState) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if let Phase::Running(since) = *phase {
            *phase = Phase::Ended(state, since.elapsed());
        }
    }

    fn report(&self, id: String, size: ByteSize) -> PreallocReport {
        let phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (state, elapsed) = match phase {
            Phase::None => (PreallocState::None, Duration::ZERO),
            Phase::Running(since) => (PreallocState::Running, since.elapsed()),
            Phase::Ended(state, took) => (state, took),
        };
        let (done, skipped) = (self.meter.done(), self.meter.skipped());
        PreallocReport {
            id,
            state,
            size,
            populated: ByteSize::from_bytes(done.saturating_sub(skipped)),
            skipped: ByteSize::from_bytes(skipped),
            elapsed,
        }
    }
}

impl fmt::Debug for Filling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filling")
            .field("meter", &self.meter)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl Ram {
    /// Begins the preallocations that run beside the guest, those of [`Prealloc::Background`] that have not begun yet. `listener` is
    /// told of each that ends, also of those that [`OpenBackend::fill`] begins later; it is called by threads that must not wait.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn fill_beside_guest(&self, listener: &PreallocListener) -> io::Result<()> {
        self.backends()
            .iter()
            .try_for_each(|backend| backend.fill_beside_guest(listener))
    }
}

impl OpenBackend {
    /// [`Ram::fill_beside_guest`] for one backend.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn fill_beside_guest(&self, listener: &PreallocListener) -> io::Result<()> {
        self.opened.filling.listen(listener);
        // One that a client began during the start, and has perhaps ended, is not begun anew.
        match (self.spec().prealloc, self.prealloc().state) {
            (Prealloc::Background, PreallocState::None) => self.fill(),
            _ => Ok(()),
        }
    }

    /// How its preallocation stands.
    #[must_use]
    pub fn prealloc(&self) -> PreallocReport {
        self.opened.prealloc_report()
    }

    /// Whether all its pages are there, or come. Not where that failed or was cancelled.
    pub(super) fn is_preallocated(&self) -> bool {
        match self.prealloc().state {
            PreallocState::Running | PreallocState::Done | PreallocState::Misplaced(_) => true,
            PreallocState::None | PreallocState::Cancelled | PreallocState::Failed(_) => false,
        }
    }

    /// Begins to provide all its pages beside the guest, but for blocks of 2 MiB (or a page where that is larger) of which
    /// something is in the balloon, or is reported free from now on; does nothing where that goes on already.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn fill(&self) -> io::Result<()> {
        if !self.opened.filling.begin() {
            return Ok(());
        }
        self.opened.given.forget_reports();
        let opened = Arc::clone(&self.opened);
        let thread = thread::Builder::new().name("fill".to_owned());
        let thread = thread.spawn(move || opened.fill()).inspect_err(|error| {
            let failed = PreallocState::Failed(format!("no thread could be started: {error}"));
            self.opened.filling.end(failed);
        })?;
        let mut filler = self.filler.lock().unwrap_or_else(PoisonError::into_inner);
        // What was there before has ended, or `begin` would have said so.
        *filler = Some(thread);
        Ok(())
    }

    /// Ends a preallocation that goes on, beside the guest or before it, after the pieces that it is at; what is there stays.
    /// Returns whether there was one.
    pub fn cancel_fill(&self) -> bool {
        let running = self.prealloc().state == PreallocState::Running;
        if running {
            self.opened.filling.meter.cancel();
        }
        running
    }
}

impl Drop for OpenBackend {
    fn drop(&mut self) {
        self.opened.filling.meter.cancel();
        let filler = self.filler.get_mut().unwrap_or_else(PoisonError::into_inner);
        if filler.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("a thread that filled guest memory has panicked");
        }
    }
}

impl Opened {
    fn prealloc_report(&self) -> PreallocReport {
        let size = ByteSize::from_bytes(self.mapping.len());
        self.filling.report(self.spec().id.clone(), size)
    }

    /// The work of the thread.
    fn fill(&self) {
        let spec = self.spec();
        let job = Job {
            id: &spec.id,
            mapping: &self.mapping,
            page: self.source.page_size(),
            threads: spec.prealloc_threads,
            nodes: spec.policy.nodes(),
            meter: &self.filling.meter,
            beside: Some(&self.given),
        };
        let filled = prealloc::run(&[job], &(), &|_| true);
        if let Err(error) = self.read_back() {
            tracing::warn!("cannot read back the state of backend '{}': {error}", spec.id);
        }
        let state = match filled {
            Ok(()) if self.filling.meter.done() < self.mapping.len() => PreallocState::Cancelled,
            Ok(()) => self.placed(),
            Err(Failure { offset, source, .. }) => {
                let error = prealloc_error(&spec, self.source.as_ref(), &self.mapping, offset, source);
                PreallocState::failed(&error)
            }
        };
        self.end_filling(state);
    }

    /// It has come to an end, of which its listener hears.
    pub(super) fn end_filling(&self, state: PreallocState) {
        self.filling.end(state);
        if let Some(listener) = self.filling.listener.get() {
            listener(self.prealloc_report());
        }
    }

    /// Whether the pages, which are all there but for those given back, lie where they should.
    fn placed(&self) -> PreallocState {
        let complete = self.filling.meter.skipped() == 0;
        match Misplaced::find(&self.spec(), &self.mapping, complete) {
            Ok(Some(misplaced)) => PreallocState::Misplaced(misplaced.to_string()),
            Ok(None) => PreallocState::Done,
            Err(error) => {
                tracing::warn!("cannot see where pages lie: {error}");
                PreallocState::Done
            }
        }
    }
}

#[cfg(test)]
mod tests;
