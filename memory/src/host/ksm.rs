//! Kernel samepage merging: what the host does, and what this process gains
//! (Documentation/admin-guide/mm/ksm.rst, proc_pid_ksm_stat in Documentation/filesystems/proc.rst).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::read_number;

const KSM: &str = "/sys/kernel/mm/ksm";

/// The state of KSM on the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostKsm {
    /// `run`: 0 stopped, 1 running, 2 stopped and everything unmerged.
    pub run: u64,
    /// All numbers of the directory by their file names, `run` too. Which there are depends on the kernel.
    pub figures: BTreeMap<String, u64>,
}

impl HostKsm {
    /// Whether ksmd is scanning.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.run == 1
    }

    /// A figure, for example `pages_sharing`.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<u64> {
        self.figures.get(name).copied()
    }
}

/// What KSM does for this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnKsm {
    /// Pages of this process that are merged (`ksm_merging_pages`).
    pub merging_pages: u64,
    /// Pages merged with the zero page (`ksm_zero_pages`).
    pub zero_pages: u64,
    /// Pages under the scanner's eye (`ksm_rmap_items`).
    pub rmap_items: u64,
    /// Bytes saved less what the scanner's tables cost (`ksm_process_profit`); may be below zero.
    pub profit: i64,
}

/// Reads the host's state; `None` on a kernel without KSM.
#[must_use]
pub fn host() -> Option<HostKsm> {
    host_in(Path::new(KSM))
}

fn host_in(root: &Path) -> Option<HostKsm> {
    let run = read_number(&root.join("run")).ok()?;
    let mut figures = BTreeMap::new();
    for entry in fs::read_dir(root).ok()?.flatten() {
        if let (Ok(number), Ok(name)) = (read_number(&entry.path()), entry.file_name().into_string()) {
            figures.insert(name, number);
        }
    }
    Some(HostKsm { run, figures })
}

/// Reads what KSM does for this process; `None` on a kernel that does not say.
#[must_use]
pub fn own() -> Option<OwnKsm> {
    own_in(Path::new("/proc/self"))
}

/// Whether pages of this process are merged, also with the page of zeroes.
pub(crate) fn own_merges() -> bool {
    own().is_some_and(|own| own.merging_pages > 0 || own.zero_pages > 0)
}

fn own_in(root: &Path) -> Option<OwnKsm> {
    let merging_pages = read_number(&root.join("ksm_merging_pages")).ok()?;
    let stat = fs::read_to_string(root.join("ksm_stat")).unwrap_or_default();
    let number = |name: &str| -> i64 {
        let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
        let value = lines
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value.trim());
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    let count = |name: &str| u64::try_from(number(name)).unwrap_or(0);
    Some(OwnKsm {
        merging_pages,
        zero_pages: count("ksm_zero_pages"),
        rmap_items: count("ksm_rmap_items"),
        profit: number("ksm_process_profit"),
    })
}

#[cfg(test)]
mod tests;
