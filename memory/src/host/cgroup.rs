//! The control group of this process, those around it, and their limits (Documentation/admin-guide/cgroup-v2.rst).

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::read_number;
use crate::size::{ByteSize, PageSize};

const PROC: &str = "/proc/self/cgroup";
const ROOT: &str = "/sys/fs/cgroup";

/// A limit that some control group has, and how much of it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The file with the limit.
    pub file: PathBuf,
    /// The most that may be used.
    pub max: ByteSize,
    /// What is used and cannot be taken from caches.
    pub current: ByteSize,
}

impl Limit {
    /// What is left of it.
    #[must_use]
    pub fn left(&self) -> ByteSize {
        ByteSize::from_bytes(self.max.bytes().saturating_sub(self.current.bytes()))
    }
}

/// `0 of 100 MiB left by /sys/fs/cgroup/guests/hugetlb.2MB.max`
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} left by {}",
            self.left(),
            self.max,
            self.file.display()
        )
    }
}

/// Of the limits for pages of this size that this process is under, that which leaves least: for pages in use
/// (`hugetlb.2MB.max`) and for reservations (`hugetlb.2MB.rsvd.max`), of its own group and of those around it. `None` without
/// any, and without version 2 of control groups.
#[must_use]
pub fn huge_pages(page: PageSize) -> Option<Limit> {
    tightest_pool(&groups(), page)
}

/// Of the limits for memory that is not of a huge page pool (`memory.max`), that which leaves least, as
/// [`huge_pages`] finds it.
#[must_use]
pub fn memory() -> Option<Limit> {
    tightest_memory(&groups())
}

/// The group of this process and those around it, innermost first; none without version 2 of control groups.
fn groups() -> Vec<PathBuf> {
    groups_in(Path::new(ROOT), &fs::read_to_string(PROC).unwrap_or_default())
}

fn groups_in(root: &Path, text: &str) -> Vec<PathBuf> {
    // The group of version 2 has number 0 and no controllers (cgroups(7)).
    let own = text.lines().find_map(|line| line.strip_prefix("0::/"));
    let own = own.map(|own| root.join(own)).unwrap_or_default();
    let around = own.ancestors().take_while(|group| group.starts_with(root));
    around.map(Path::to_owned).collect()
}

/// A file that tells what is in effect, with its text: of the innermost group that has it, since a group without a controller is
/// as the one around it.
pub(super) fn effective(name: &str) -> Option<(PathBuf, String)> {
    let read = |group: PathBuf| {
        let file = group.join(name);
        fs::read_to_string(&file).ok().map(|text| (file, text))
    };
    groups().into_iter().find_map(read)
}

fn tightest_pool(groups: &[PathBuf], page: PageSize) -> Option<Limit> {
    let size = match page {
        PageSize::HUGE_2M => "2MB",
        PageSize::HUGE_1G => "1GB",
        _ => return None,
    };
    let names = ["", ".rsvd"].map(|kind| format!("hugetlb.{size}{kind}"));
    let limits = groups
        .iter()
        .flat_map(|group| names.iter().map(|name| limit(group, name)));
    limits.flatten().min_by_key(Limit::left)
}

fn tightest_memory(groups: &[PathBuf]) -> Option<Limit> {
    let limits = groups.iter().filter_map(|group| {
        let mut limit = limit(group, "memory")?;
        let used = limit.current.bytes().saturating_sub(caches(group));
        limit.current = ByteSize::from_bytes(used);
        Some(limit)
    });
    limits.min_by_key(Limit::left)
}

/// What a group holds of files and other caches, which the kernel drops before it refuses memory.
fn caches(group: &Path) -> u64 {
    let text = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let droppable = ["active_file", "inactive_file", "slab_reclaimable"];
    let figure = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        droppable.contains(&name).then(|| value.parse::<u64>().ok())?
    };
    text.lines().filter_map(figure).sum()
}

/// The limit of one group, where it has one: `max` stands for none.
fn limit(group: &Path, name: &str) -> Option<Limit> {
    let file = group.join(format!("{name}.max"));
    let max = read_number(&file).ok()?;
    let current = read_number(&group.join(format!("{name}.current"))).ok()?;
    Some(Limit {
        file,
        max: ByteSize::from_bytes(max),
        current: ByteSize::from_bytes(current),
    })
}

#[cfg(test)]
mod tests;
