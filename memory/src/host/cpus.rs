//! The host's CPUs: lists of them, and why one cannot be used.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use rustix::thread::CpuSet;
use thiserror::Error;

use super::{cgroup, list};

const CPUS: &str = "/sys/devices/system/cpu";

/// A set of the host's CPUs, written as the kernel writes lists: `0-1,3`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuList(BTreeSet<u32>);

/// A text is no set of CPUs.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "'{text}' is not a list of CPUs: write numbers from 0 to {} and ranges, for example 0-1,3",
    highest()
)]
pub struct CpuListError {
    text: String,
}

/// The highest CPU that sched_setaffinity(2) can be told of here.
fn highest() -> u32 {
    u32::try_from(CpuSet::MAX_CPU - 1).unwrap_or(u32::MAX)
}

impl CpuList {
    /// The CPUs, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// The CPUs of this list that are not in `other`.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// For sched_setaffinity(2).
    #[must_use]
    pub fn to_set(&self) -> CpuSet {
        let mut set = CpuSet::new();
        self.iter().for_each(|cpu| set.set(cpu as usize));
        set
    }
}

impl From<CpuSet> for CpuList {
    fn from(set: CpuSet) -> Self {
        Self((0..=highest()).filter(|cpu| set.is_set(*cpu as usize)).collect())
    }
}

/// As `0-1,3`; not empty.
impl FromStr for CpuList {
    type Err = CpuListError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        list::parse(text, highest())
            .filter(|cpus| !cpus.is_empty())
            .map(Self)
            .ok_or_else(|| CpuListError {
                text: text.to_owned(),
            })
    }
}

/// Not empty.
impl TryFrom<Vec<u32>> for CpuList {
    type Error = CpuListError;

    fn try_from(cpus: Vec<u32>) -> Result<Self, Self::Error> {
        match cpus.iter().all(|cpu| *cpu <= highest()) && !cpus.is_empty() {
            true => Ok(Self(cpus.into_iter().collect())),
            false => Err(CpuListError {
                text: format!("{cpus:?}"),
            }),
        }
    }
}

impl fmt::Display for CpuList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list::write(f, &self.0)
    }
}

/// Why this process cannot run on a CPU, and what to do; `None` when nothing is known against it.
#[must_use]
pub fn obstacle(cpu: u32) -> Option<String> {
    let cpuset = cgroup::effective("cpuset.cpus.effective");
    obstacle_in(Path::new(CPUS), cpuset, cpu)
}

fn obstacle_in(root: &Path, cpuset: Option<(PathBuf, String)>, cpu: u32) -> Option<String> {
    let known_text = |text: &str| -> Option<CpuList> { text.parse().ok() };
    let known = |name: &str| known_text(&fs::read_to_string(root.join(name)).ok()?);
    let lacks = |cpus: &CpuList| !cpus.0.contains(&cpu);
    if let Some(present) = known("present").filter(lacks) {
        return Some(format!("this machine has only CPUs {present}; choose among them"));
    }
    if let Some(online) = known("online").filter(lacks) {
        let switch = root.join(format!("cpu{cpu}/online"));
        return Some(format!(
            "it is offline; choose among {online}, or write 1 to {}",
            switch.display()
        ));
    }
    let (file, cpus) = cpuset?;
    let cpus = known_text(&cpus).filter(lacks)?;
    Some(format!(
        "the cpuset of the control group has only CPUs {cpus} ({}); choose among them, or give the group more",
        file.display()
    ))
}

#[cfg(test)]
mod tests;
