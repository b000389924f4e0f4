//! Providing pages before the guest starts: of all backends at once, while others look at them, and may stop it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::fill::PreallocListener;
use super::open::{check_effective, check_placed};
use super::refusal::prealloc_error;
use super::{OpenBackend, Opened, PreallocState, RamError};
use crate::backend::{BackendSpec, MergeRequest, OpenObserver, OpenStage, Prealloc};
use crate::prealloc::{self, Failure, Job};
use crate::size::ByteSize;

/// The last part of what backends need for a start, after which they are as they were asked for. It may run in a thread of its
/// own.
///
/// It counts as running from the moment when this is made; one that is dropped without having run was cancelled.
#[derive(Debug)]
pub struct Population {
    /// Those with [`Prealloc::On`].
    wanted: Vec<Wanted>,
    aborted: AtomicBool,
}

#[derive(Debug)]
struct Wanted {
    opened: Arc<Opened>,
    /// What a client begins afterwards is not ours.
    ended: AtomicBool,
}

impl Population {
    /// Of these backends, which were mapped. `listener` is told of each preallocation that ends, also of those that others begin.
    pub fn new<'a>(
        backends: impl IntoIterator<Item = &'a OpenBackend>,
        listener: Option<&PreallocListener>,
    ) -> Self {
        let mut wanted = Vec::new();
        for OpenBackend { opened, .. } in backends {
            if let Some(listener) = listener {
                opened.filling.listen(listener);
            }
            if opened.spec().prealloc == Prealloc::On {
                opened.filling.begin();
                wanted.push(Wanted {
                    opened: Arc::clone(opened),
                    ended: AtomicBool::new(false),
                });
            }
        }
        Self {
            wanted,
            aborted: AtomicBool::new(false),
        }
    }

    /// Whether there is nothing to fill, so that [`Population::run`] takes no time.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty()
    }

    /// Fills them, and checks of each, as soon as it is filled, that it is as it was asked for. One that is cancelled
    /// ([`OpenBackend::cancel_fill`]) stays as it is then, and the others go on.
    ///
    /// # Errors
    /// [`RamError`] when a page cannot be had, or lies elsewhere and that is not wanted, and after [`Population::abort`].
    pub fn run(&self, observer: &dyn OpenObserver) -> Result<(), RamError> {
        let failure = Mutex::new(None);
        self.fill(observer, &|wanted| {
            let checked = wanted.check(observer);
            let checked = checked
                .map_err(|error| *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error));
            checked.is_ok()
        })?;
        match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None if self.aborted.load(Ordering::SeqCst) => Err(self.cancelled()),
            None => Ok(()),
        }
    }

    /// The start shall come to nothing: [`Population::run`] fails soon, if it is not over.
    pub fn abort(&self) {
        self.aborted.store(true, Ordering::SeqCst);
        let wanted = self.wanted.iter();
        wanted.for_each(|wanted| wanted.opened.filling.meter().cancel());
    }

    fn cancelled(&self) -> RamError {
        let wanted = || self.wanted.iter().map(|wanted| &wanted.opened);
        let done = wanted().map(|opened| opened.filling.meter().done());
        let total = wanted().map(|opened| opened.mapping.len());
        RamError::Cancelled {
            done: ByteSize::from_bytes(done.sum()),
            total: ByteSize::from_bytes(total.sum()),
        }
    }

    /// `ended` is asked about each that was filled, or cancelled; after false none goes on.
    fn fill(
        &self,
        observer: &dyn OpenObserver,
        ended: &(dyn Fn(&Wanted) -> bool + Sync),
    ) -> Result<(), RamError> {
        let wanted = self.wanted.iter().map(|wanted| &wanted.opened);
        let wanted: Vec<_> = wanted.map(|opened| (opened, opened.spec())).collect();
        let jobs: Vec<Job<'_>> = wanted
            .iter()
            .map(|(opened, spec)| Job {
                id: &spec.id,
                mapping: &opened.mapping,
                page: opened.source.page_size(),
                threads: spec.prealloc_threads,
                nodes: spec.policy.nodes(),
                meter: opened.filling.meter(),
                beside: None,
            })
            .collect();
        let ended = |job| {
            let wanted: &Wanted = &self.wanted[job];
            !self.aborted.load(Ordering::SeqCst) && ended(wanted)
        };
        prealloc::run(&jobs, observer, &ended).map_err(|Failure { job, offset, source }| {
            let (opened, spec) = &wanted[job];
            let error = prealloc_error(spec, opened.source.as_ref(), &opened.mapping, offset, source);
            opened.end_filling(PreallocState::failed(&error));
            error
        })
    }
}

impl Wanted {
    /// It was filled, or its filling was cancelled.
    fn check(&self, observer: &dyn OpenObserver) -> Result<(), RamError> {
        self.ended.store(true, Ordering::SeqCst);
        let result = filled(&self.opened);
        let state = match &result {
            Ok(state) => {
                observer.stage(&self.opened.spec().id, OpenStage::Verified);
                state.clone()
            }
            Err(error) => PreallocState::failed(error),
        };
        self.opened.end_filling(state);
        result.map(drop)
    }
}

/// What became of a backend that was filled, or of one whose filling was cancelled.
fn filled(opened: &Opened) -> Result<PreallocState, RamError> {
    let spec = opened.spec();
    let complete = opened.filling.meter().done() >= opened.mapping.len();
    let effective = opened.read_back().map_err(|source| RamError::ReadBack {
        id: spec.id.clone(),
        source,
    })?;
    // Merging was looked at when the memory was mapped; since then a client may have changed it, perhaps just now.
    let wanted = BackendSpec {
        merge: MergeRequest::Off,
        ..BackendSpec::clone(&spec)
    };
    check_effective(&wanted, opened.source.as_ref(), &effective, complete)?;
    let misplaced = check_placed(&spec, &opened.mapping, complete)?;
    Ok(match (complete, misplaced) {
        (false, _) => PreallocState::Cancelled,
        (true, Some(misplaced)) => PreallocState::Misplaced(misplaced.to_string()),
        (true, None) => PreallocState::Done,
    })
}

impl Drop for Population {
    fn drop(&mut self) {
        for wanted in &self.wanted {
            if !wanted.ended.load(Ordering::SeqCst) {
                wanted.opened.filling.end(PreallocState::Cancelled);
            }
        }
    }
}

#[cfg(test)]
mod tests;
