//! What a disk's user may ask about it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
}

impl Counters {
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

/// A view of a disk from outside its worker; cheap to clone, and never waits for the disk.
#[derive(Clone, Debug)]
pub struct BlkHandle(Arc<Counters>);

impl BlkHandle {
    pub(super) fn new(counters: Arc<Counters>) -> BlkHandle {
        BlkHandle(counters)
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> BlkStats {
        BlkStats {
            read: self.0.read.get(),
            written: self.0.written.get(),
            discarded: self.0.discarded.get(),
            flushes: self.0.flushes.get().1,
            failed: self.0.failed.get().1,
        }
    }
}
