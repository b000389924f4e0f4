//! What a disk's user may ask about it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use vmm_sys_util::eventfd::EventFd;

/// What a disk has done since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlkStats {
    /// Bytes and number of reads.
    pub read: (u64, u64),
    /// Bytes and number of writes, those of zeros included.
    pub written: (u64, u64),
    /// Bytes and number of discards.
    pub discarded: (u64, u64),
    /// Number of flushes that the guest asked for.
    pub flushes: u64,
    /// Requests that the host could not serve.
    pub failed: u64,
}

/// Bytes and how many requests they were of.
#[derive(Debug, Default)]
struct Sum {
    bytes: AtomicU64,
    count: AtomicU64,
}

impl Sum {
    fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> (u64, u64) {
        (
            self.bytes.load(Ordering::Relaxed),
            self.count.load(Ordering::Relaxed),
        )
    }
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    read: Sum,
    written: Sum,
    discarded: Sum,
    flushes: Sum,
    failed: Sum,
    /// The user wants what was written to be safe.
    flush_wanted: AtomicBool,
}

impl Counters {
    /// Whether the user wants a flush; asked once for each wish.
    pub(super) fn take_flush_wish(&self) -> bool {
        self.flush_wanted.swap(false, Ordering::AcqRel)
    }

    pub(super) fn read(&self, bytes: u64) {
        self.read.add(bytes);
    }

    pub(super) fn write(&self, bytes: u64) {
        self.written.add(bytes);
    }

    pub(super) fn discard(&self, bytes: u64) {
        self.discarded.add(bytes);
    }

    pub(super) fn flush(&self) {
        self.flushes.add(0);
    }

    pub(super) fn fail(&self) {
        self.failed.add(0);
    }
}

/// A disk from outside its worker; cheap to clone, and never waits for the disk.
#[derive(Clone, Debug)]
pub struct BlkHandle {
    counters: Arc<Counters>,
    /// Wakes the worker.
    event: Arc<EventFd>,
}

impl BlkHandle {
    pub(super) fn new(counters: Arc<Counters>, event: EventFd) -> BlkHandle {
        BlkHandle {
            counters,
            event: Arc::new(event),
        }
    }

    /// Has the disk make safe what was written, at once and again after the requests that it has; a failure is logged.
    ///
    /// # Errors
    /// When the worker cannot be woken.
    pub fn flush(&self) -> io::Result<()> {
        self.counters.flush_wanted.store(true, Ordering::Release);
        self.event.write(1)
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> BlkStats {
        BlkStats {
            read: self.counters.read.get(),
            written: self.counters.written.get(),
            discarded: self.counters.discarded.get(),
            flushes: self.counters.flushes.get().1,
            failed: self.counters.failed.get().1,
        }
    }
}
