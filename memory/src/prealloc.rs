//! Providing all pages at start, with all CPUs that are near them.
//!
//! A new thread's stack needs the lock that a running populate holds, so every worker exists before the first one begins.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError, RwLock};
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::backend::{OpenObserver, OpenStage};
use crate::given::Given;
use crate::host::numa::{self, NodeSet};
use crate::mapping::{Advice, Mapping, Span};
use crate::size::{ByteSize, PageSize};

/// How much is asked of the kernel at once: little enough that progress shows, enough that the call costs nothing.
const CHUNK: u64 = 32 << 20;

/// One mapping to fill.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    pub(crate) id: &'a str,
    pub(crate) mapping: &'a Mapping,
    pub(crate) page: PageSize,
    /// `None`: one for each CPU that may be used, and one alone beside a guest, which has use for the CPUs.
    pub(crate) threads: Option<NonZeroUsize>,
    /// The nodes whose CPUs do the work; `None`: any.
    pub(crate) nodes: Option<&'a NodeSet>,
    /// `Some`: the guest runs.
    pub(crate) beside: Option<Beside<'a>>,
}

/// What a guest that runs has given back, which is not to be filled.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beside<'a> {
    pub(crate) given: &'a Given,
    /// Bytes left out are added here.
    pub(crate) skipped: &'a AtomicU64,
}

/// Why a preallocation did not come to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A page could not be had, or a thread.
    Page {
        /// Index of the job.
        job: usize,
        /// Where in the mapping.
        offset: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The observer said so.
    Cancelled {
        /// What was there by then, of all jobs together.
        done: ByteSize,
        /// What should have been.
        total: ByteSize,
    },
}

/// What the workers share.
struct Work<'a> {
    observer: &'a dyn OpenObserver,
    stop: AtomicBool,
    cancelled: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

/// Fills all mappings at the same time. Stops at the first page that cannot be had, and when the observer
/// says so.
pub(crate) fn run(jobs: &[Job<'_>], observer: &dyn OpenObserver) -> Result<(), Failure> {
    let ours = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let work = Work {
        observer,
        stop: AtomicBool::new(false),
        cancelled: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    let done: Vec<AtomicU64> = jobs.iter().map(|_| AtomicU64::new(0)).collect();
    // The workers wait at this lock until all of them are there.
    let gate = RwLock::new(());
    thread::scope(|scope| {
        let closed = gate.write().unwrap_or_else(PoisonError::into_inner);
        let (ready, arrivals) = mpsc::channel::<()>();
        'spawn: for (index, job) in jobs.iter().enumerate() {
            let cpus = worker_cpus(&ours, job.nodes);
            for share in shares(job, &cpus) {
                let (work, gate, done, ready) = (&work, &gate, &done[index], ready.clone());
                let worker = move || {
                    enter(&cpus, ready);
                    drop(gate.read());
                    work.populate(index, job, share, done);
                };
                let thread = thread::Builder::new().name("prealloc".to_owned());
                if let Err(source) = thread.spawn_scoped(scope, worker) {
                    work.fail(Failure::Page {
                        job: index,
                        offset: share.offset,
                        source,
                    });
                    break 'spawn;
                }
            }
        }
        drop(ready);
        // Ends when every worker has dropped its sender.
        for () in arrivals {}
        drop(closed);
    });
    let failure = work.failure.into_inner().unwrap_or_else(PoisonError::into_inner);
    if let Some(failure) = failure {
        return Err(failure);
    }
    if work.cancelled.into_inner() {
        let done = done.into_iter().map(AtomicU64::into_inner).sum();
        return Err(Failure::Cancelled {
            done: ByteSize::from_bytes(done),
            total: ByteSize::from_bytes(jobs.iter().map(|job| job.mapping.len()).sum()),
        });
    }
    Ok(())
}

/// Goes to the CPUs of the worker and says that it is there.
fn enter(cpus: &CpuSet, ready: Sender<()>) {
    if cpus.count() > 0 {
        // A worker elsewhere is slower, nothing worse: the policy of the mapping says where the pages go.
        if let Err(error) = sched_setaffinity(None, cpus) {
            tracing::debug!(%error, "preallocation worker not pinned");
        }
    }
    drop(ready);
}

/// The CPUs of `nodes` that we may use; all that we may use where that leaves none.
fn worker_cpus(ours: &CpuSet, nodes: Option<&NodeSet>) -> CpuSet {
    let Some(nodes) = nodes else { return *ours };
    let near = numa::cpus(nodes);
    let mut both = CpuSet::new();
    for cpu in (0..CpuSet::MAX_CPU).filter(|cpu| ours.is_set(*cpu) && near.is_set(*cpu)) {
        both.set(cpu);
    }
    if both.count() == 0 { *ours } else { both }
}

/// The part of each worker: all have the same but for one unit of 2 MiB, or one page where that is larger.
fn shares(job: &Job<'_>, cpus: &CpuSet) -> Vec<Span> {
    let threads = match (job.threads, job.beside) {
        (Some(threads), _) => threads.get() as u64,
        (None, Some(_)) => 1,
        (None, None) => u64::from(cpus.count()),
    };
    split(
        job.mapping.len(),
        job.page.max(PageSize::HUGE_2M).bytes(),
        threads.max(1),
    )
}

fn split(len: u64, unit: u64, threads: u64) -> Vec<Span> {
    let units = len.div_ceil(unit);
    let threads = threads.min(units);
    let edge = |worker: u64| {
        let extra = worker.min(units % threads);
        (worker * (units / threads) + extra).saturating_mul(unit).min(len)
    };
    let share = |worker| Span {
        offset: edge(worker),
        len: edge(worker + 1) - edge(worker),
    };
    (0..threads).map(share).collect()
}

impl Work<'_> {
    fn fail(&self, failure: Failure) {
        self.stop.store(true, Ordering::Relaxed);
        let mut first = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(failure);
    }

    fn cancel(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.cancelled.store(true, Ordering::Relaxed);
    }

    fn populate(&self, index: usize, job: &Job<'_>, share: Span, done: &AtomicU64) {
        let chunk = match job.beside {
            Some(beside) => beside.given.block(),
            None => CHUNK.max(job.page.bytes()),
        };
        let mut offset = share.offset;
        while offset < share.end() && !self.stop.load(Ordering::Relaxed) {
            if self.observer.cancelled() {
                return self.cancel();
            }
            let len = chunk.min(share.end() - offset);
            if let Err(source) = provide_or_skip(job, Span { offset, len }) {
                let job = index;
                return self.fail(Failure::Page { job, offset, source });
            }
            self.report(job, len, done.fetch_add(len, Ordering::Relaxed));
            offset += len;
        }
    }

    /// Tells that `len` more bytes are there than `before`.
    fn report(&self, job: &Job<'_>, len: u64, before: u64) {
        let total = job.mapping.len();
        let after = before + len;
        let (done, all) = (ByteSize::from_bytes(after), ByteSize::from_bytes(total));
        self.observer.prealloc(job.id, done, all);
        let passes = |mark| before < mark && after >= mark;
        if passes(total.div_ceil(2)) {
            self.observer.stage(job.id, OpenStage::PreallocHalf);
        }
        if passes(total) {
            self.observer.stage(job.id, OpenStage::Preallocated);
        }
    }
}

/// Provides the pages of a piece, which beside a guest is a block.
fn provide_or_skip(job: &Job<'_>, span: Span) -> io::Result<()> {
    let Some(beside) = job.beside else {
        return provide(job, span);
    };
    let provided = beside.given.unless_given(span.offset, || provide(job, span));
    provided.unwrap_or_else(|| {
        beside.skipped.fetch_add(span.len, Ordering::Relaxed);
        Ok(())
    })
}

/// Provides the pages of a piece.
fn provide(job: &Job<'_>, span: Span) -> io::Result<()> {
    loop {
        match job.mapping.advise(span, Advice::PopulateWrite) {
            // A kernel before 5.14 does not know the advice. Where a page is missing, a touch ends in SIGBUS, for which the
            // start ends, but not a guest that runs.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                return match job.beside {
                    None => job.mapping.touch(span, job.page),
                    Some(_) => Err(io::Error::new(
                        io::ErrorKind::Unsupported,
                        "filling memory beside a guest needs Linux 5.14",
                    )),
                };
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests;
