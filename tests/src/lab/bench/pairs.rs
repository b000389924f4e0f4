//! Two guests that live at once, one of each VMM, and are measured in turns.

use std::time::{Duration, Instant};

use super::machine::{BOTH, Guest, Machine, PAIRS, Vmm};
use super::report::Report;
use crate::harness::Result;

/// So many there are at least, however long they take.
const LEAST: usize = 3;

/// A guest of Ballast's and one of the other's.
#[derive(Debug)]
pub struct Contest {
    ours: Guest,
    theirs: Guest,
}

impl Contest {
    /// Boots both.
    pub fn boot(machine: &Machine) -> Result<Contest> {
        Contest::of(|vmm| vmm.boot(machine))
    }

    /// Boots both in a way of their own.
    pub fn of(boot: impl Fn(Vmm) -> Result<Guest>) -> Result<Contest> {
        let [ours, theirs] = BOTH.map(boot);
        Ok(Contest {
            ours: ours?,
            theirs: theirs?,
        })
    }

    /// Measures pairs as [`rounds`] does. Who comes first alternates.
    pub fn pairs<T>(
        &mut self,
        time: Duration,
        mut measure: impl FnMut(Vmm, &mut Guest) -> Result<T>,
    ) -> Result<Vec<(T, T)>> {
        rounds(PAIRS, time, |round| {
            Ok(if round.is_multiple_of(2) {
                let ours = measure(Vmm::Ballast, &mut self.ours)?;
                (ours, measure(Vmm::Qemu, &mut self.theirs)?)
            } else {
                let theirs = measure(Vmm::Qemu, &mut self.theirs)?;
                (measure(Vmm::Ballast, &mut self.ours)?, theirs)
            })
        })
    }
}

/// Measures so many times, fewer where a busy machine is not through within `time`.
pub fn rounds<T>(most: usize, time: Duration, mut measure: impl FnMut(usize) -> Result<T>) -> Result<Vec<T>> {
    let start = Instant::now();
    let mut rounds = Vec::new();
    while rounds.len() < LEAST || (rounds.len() < most && start.elapsed() < time) {
        rounds.push(measure(rounds.len())?);
    }
    Ok(rounds)
}

/// Reports one figure of pairs that hold several.
pub fn report<T>(report: &mut Report<'_>, name: &str, unit: &str, pairs: &[(T, T)], of: impl Fn(&T) -> f64) {
    let figures: Vec<_> = pairs
        .iter()
        .map(|(ours, theirs)| (of(ours), of(theirs)))
        .collect();
    report.pairs(name, unit, &figures);
}
