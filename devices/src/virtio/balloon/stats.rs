//! The guest's memory statistics (virtio 1.3, §5.5.6.3): what they are called, and how they are read.
//!
//! Every number is the guest's word. Nothing here computes with one.

use std::time::{Duration, Instant, SystemTime};

/// How many statistics are known by name.
pub(super) const KNOWN: usize = 16;
/// Unknown statistics that are kept of one report.
const MAX_UNKNOWN: usize = 16;
/// Bytes of one entry: a tag of 16 bits and a value of 64, packed.
const ENTRY: usize = 10;
/// Entries that are read of one report.
const MAX_ENTRIES: usize = 256;
/// Bytes that are read of one report.
pub(super) const MAX_BYTES: usize = MAX_ENTRIES * ENTRY;

/// A statistic, by its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Stat {
    SwapIn = 0,
    SwapOut = 1,
    MajorFaults = 2,
    MinorFaults = 3,
    FreeMemory = 4,
    TotalMemory = 5,
    AvailableMemory = 6,
    DiskCaches = 7,
    HugetlbAllocations = 8,
    HugetlbFailures = 9,
    OomKills = 10,
    AllocStalls = 11,
    AsyncScans = 12,
    DirectScans = 13,
    AsyncReclaims = 14,
    DirectReclaims = 15,
}

/// The names under which QEMU shows the statistics, by tag.
pub const STAT_NAMES: [&str; KNOWN] = [
    "stat-swap-in",
    "stat-swap-out",
    "stat-major-faults",
    "stat-minor-faults",
    "stat-free-memory",
    "stat-total-memory",
    "stat-available-memory",
    "stat-disk-caches",
    "stat-htlb-pgalloc",
    "stat-htlb-pgfail",
    "stat-oom-kills",
    "stat-alloc-stalls",
    "stat-async-scans",
    "stat-direct-scans",
    "stat-async-reclaims",
    "stat-direct-reclaims",
];

impl Stat {
    /// Its name, as in [`STAT_NAMES`].
    #[must_use]
    pub fn name(self) -> &'static str {
        STAT_NAMES[self as usize]
    }
}

/// One report of the guest. Sizes are bytes, the rest are counts since the guest's start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestStats {
    known: [Option<u64>; KNOWN],
    unknown: Vec<(u16, u64)>,
    last_update: SystemTime,
    received: Instant,
}

impl GuestStats {
    /// Reads the entries of one report; what is not a whole entry at the end is dropped. Of a tag that comes twice the
    /// last value counts, and of unknown tags only the first few are kept.
    pub(super) fn parse(bytes: &[u8]) -> GuestStats {
        let mut stats = GuestStats {
            known: [None; KNOWN],
            unknown: Vec::new(),
            last_update: SystemTime::now(),
            received: Instant::now(),
        };
        let (entries, _) = bytes.as_chunks::<ENTRY>();
        for [a, b, value @ ..] in entries {
            let (tag, value) = (u16::from_le_bytes([*a, *b]), u64::from_le_bytes(*value));
            if let Some(known) = stats.known.get_mut(usize::from(tag)) {
                *known = Some(value);
            } else if let Some((_, old)) = stats.unknown.iter_mut().find(|(old, _)| *old == tag) {
                *old = value;
            } else if stats.unknown.len() < MAX_UNKNOWN {
                stats.unknown.push((tag, value));
            }
        }
        stats
    }

    /// A statistic, if the guest told it.
    #[must_use]
    pub fn get(&self, stat: Stat) -> Option<u64> {
        self.known[stat as usize]
    }

    /// Every known statistic, in the order of the tags, by QEMU's names.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Option<u64>)> {
        STAT_NAMES.into_iter().zip(self.known)
    }

    /// Tag and value of what has no name here; the first few, in the guest's order.
    #[must_use]
    pub fn unknown(&self) -> &[(u16, u64)] {
        &self.unknown
    }

    /// When the report came.
    #[must_use]
    pub fn last_update(&self) -> SystemTime {
        self.last_update
    }

    /// How old the report is.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.received.elapsed()
    }
}

#[cfg(test)]
mod tests;
