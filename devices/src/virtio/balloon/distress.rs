//! Whether a guest suffers, by its own statistics. Pure.
//!
//! A guest that makes itself look worse than it is gets its own memory back, which it could take without asking.

use super::stats::{GuestStats, Stat};

/// What counts, and by how much it has to rise from one report to the next. A kill always counts; the others only of a
/// guest that has little left, because a balloon that squeezes the page cache causes some of them and harms nobody.
const SIGNS: [(Stat, u64, Applies); 3] = [
    (Stat::OomKills, 1, Applies::Always),
    (Stat::AllocStalls, 16, Applies::WhenShort),
    (Stat::DirectReclaims, 256, Applies::WhenShort),
];

/// A guest is short when less than this part of its memory is available.
const SHORT: u64 = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Applies {
    Always,
    WhenShort,
}

/// Compares each report with the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct Distress {
    before: [Option<u64>; SIGNS.len()],
}

impl Distress {
    /// A new driver counts anew.
    pub(super) fn reset(&mut self) {
        *self = Distress::default();
    }

    /// What says that a guest suffers which has `actual` bytes: name and rise of each sign. None without a report
    /// before.
    pub(super) fn judge(&mut self, stats: &GuestStats, actual: u64) -> Vec<(&'static str, u64)> {
        let available = stats.get(Stat::AvailableMemory).or(stats.get(Stat::FreeMemory));
        let short = available.is_none_or(|bytes| bytes < actual / SHORT);
        let mut signs = Vec::new();
        for ((stat, least, applies), before) in SIGNS.into_iter().zip(&mut self.before) {
            let now = stats.get(stat);
            let rise = now.zip(*before).and_then(|(now, before)| now.checked_sub(before));
            *before = now;
            let counts = short || applies == Applies::Always;
            signs.extend(
                rise.filter(|rise| counts && *rise >= least)
                    .map(|rise| (stat.name(), rise)),
            );
        }
        signs
    }
}

#[cfg(test)]
mod tests;
