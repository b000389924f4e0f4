//! Providing all pages, at the start with all CPUs that are near them.
//!
//! A new thread's stack needs the lock that a running populate holds, so every worker exists before the first one begins.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::backend::{OpenObserver, OpenStage};
use crate::given::Given;
use crate::host::numa::{self, NodeSet};
use crate::mapping::{Advice, Mapping, Span};
use crate::size::{ByteSize, PageSize};

/// How much is asked of the kernel at once: little enough that others, who need the lock that a populate holds, hardly wait (a
/// thread that is to be started, for a client's answer), enough that the call costs nothing.
const CHUNK: u64 = 4 << 20;

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
    pub(crate) meter: &'a Meter,
    /// `Some`: the guest runs, and this is what it has given back, which is not to be filled.
    pub(crate) beside: Option<&'a Given>,
}

/// How far the filling of one mapping is, for whoever looks at it meanwhile, or stops it.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    /// Bytes that were provided or left out.
    done: AtomicU64,
    /// Those that were left out.
    skipped: AtomicU64,
    cancelled: AtomicBool,
}

impl Meter {
    /// From the beginning.
    pub(crate) fn reset(&self) {
        self.cancelled.store(false, Ordering::Relaxed);
        self.done.store(0, Ordering::Relaxed);
        self.skipped.store(0, Ordering::Relaxed);
    }

    /// Each worker of the mapping stops after the piece that it is at.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Bytes that were provided or left out.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Bytes that were left out.
    pub(crate) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }
}

/// A page could not be had, or a thread.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Index of the job.
    pub(crate) job: usize,
    /// Where in the mapping.
    pub(crate) offset: u64,
    /// What the kernel said.
    pub(crate) source: io::Error,
}

/// What the workers share.
struct Work<'a> {
    observer: &'a dyn OpenObserver,
    ended: &'a (dyn Fn(usize) -> bool + Sync),
    stop: AtomicBool,
    failure: Mutex<Option<Failure>>,
}

/// Fills all mappings at the same time. Stops at the first page that cannot be had. One that is cancelled does not stop the
/// others; its meter tells. `ended` gets the index of each job that comes to its end while nothing has stopped them all; false
/// stops them.
pub(crate) fn run(
    jobs: &[Job<'_>],
    observer: &dyn OpenObserver,
    ended: &(dyn Fn(usize) -> bool + Sync),
) -> Result<(), Failure> {
    let ours = sched_getaffinity(None).unwrap_or_else(|_| CpuSet::new());
    let work = Work {
        observer,
        ended,
        stop: AtomicBool::new(false),
        failure: Mutex::new(None),
    };
    // The workers wait at this lock until all of them are there.
    let gate = RwLock::new(());
    thread::scope(|scope| {
        let closed = gate.write().unwrap_or_else(PoisonError::into_inner);
        let (ready, arrivals) = mpsc::channel::<()>();
        'spawn: for (index, job) in jobs.iter().enumerate() {
            let cpus = worker_cpus(&ours, job.nodes);
            let shares = shares(job, &cpus);
            let workers = Arc::new(AtomicUsize::new(shares.len()));
            for share in shares {
                let (work, gate, ready) = (&work, &gate, ready.clone());
                let workers = Arc::clone(&workers);
                let worker = move || {
                    enter(&cpus, ready);
                    drop(gate.read());
                    work.populate(index, job, share);
                    if workers.fetch_sub(1, Ordering::AcqRel) == 1 {
                        work.end(index);
                    }
                };
                let thread = thread::Builder::new().name("prealloc".to_owned());
                if let Err(source) = thread.spawn_scoped(scope, worker) {
                    work.fail(Failure {
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
    failure.map_or(Ok(()), Err)
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

    /// The last worker of a job is through.
    fn end(&self, index: usize) {
        if !self.stop.load(Ordering::Relaxed) && !(self.ended)(index) {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn populate(&self, index: usize, job: &Job<'_>, share: Span) {
        let meter = job.meter;
        let chunk = match job.beside {
            Some(given) => given.block(),
            None => CHUNK.max(job.page.bytes()),
        };
        let mut offset = share.offset;
        let stopped = || self.stop.load(Ordering::Relaxed) || meter.cancelled.load(Ordering::Relaxed);
        while offset < share.end() && !stopped() {
            let len = chunk.min(share.end() - offset);
            if let Err(source) = provide_or_skip(job, Span { offset, len }) {
                let job = index;
                return self.fail(Failure { job, offset, source });
            }
            self.report(job, len, meter.done.fetch_add(len, Ordering::Relaxed));
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
    let Some(given) = job.beside else {
        return provide(job, span);
    };
    let provided = given.unless_given(span.offset, || provide(job, span));
    provided.unwrap_or_else(|| {
        job.meter.skipped.fetch_add(span.len, Ordering::Relaxed);
        Ok(())
    })
}

/// Provides the pages of a piece.
fn provide(job: &Job<'_>, span: Span) -> io::Result<()> {
    match populate(job.mapping, span) {
        // A kernel before 5.14 does not know the advice. Where a page is missing, a touch ends in SIGBUS, for which the
        // start ends, but not a guest that runs.
        Err(error) if is_unknown(&error) => match job.beside {
            None => job.mapping.touch(span, job.page),
            Some(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "filling memory beside a guest needs Linux 5.14",
            )),
        },
        result => result,
    }
}

/// Provides the pages of a piece, whose bounds are multiples of the page size; where the kernel has no way to do so without
/// a touch, they are left to the first one.
pub(crate) fn provide_early(mapping: &Mapping, span: Span) -> io::Result<()> {
    match populate(mapping, span) {
        Err(error) if is_unknown(&error) => Ok(()),
        result => result,
    }
}

/// Asks the kernel until it has an answer.
fn populate(mapping: &Mapping, span: Span) -> io::Result<()> {
    loop {
        match mapping.advise(span, Advice::PopulateWrite) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR)) => {}
            result => return result,
        }
    }
}

/// A kernel before 5.14.
fn is_unknown(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EINVAL)
}

#[cfg(test)]
mod tests;
