//! The control group of this process, those around it, and their limits (Documentation/admin-guide/cgroup-v2.rst, and
//! cgroup-v1 beside it).

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

/// What of the pages of a pool a limit is for, as its file is called.
const IN_USE: &str = "";
const RESERVED: &str = ".rsvd";

/// Of the limits for pages of this size that this process is under, that which leaves least: for pages in use
/// (`hugetlb.2MB.max`) and for reservations (`hugetlb.2MB.rsvd.max`), of its own group and of those around it. `None` without
/// any.
#[must_use]
pub fn huge_pages(page: PageSize) -> Option<Limit> {
    tightest_pool(&Groups::of("hugetlb"), page, &[IN_USE, RESERVED])
}

/// The same for pages in use alone: what a page has to be within that was reserved before.
#[must_use]
pub fn huge_pages_in_use(page: PageSize) -> Option<Limit> {
    tightest_pool(&Groups::of("hugetlb"), page, &[IN_USE])
}

/// Of the limits for memory that is not of a huge page pool (`memory.max`), that which leaves least, as
/// [`huge_pages`] finds it.
#[must_use]
pub fn memory() -> Option<Limit> {
    tightest_memory(&Groups::of("memory"))
}

/// Of the limits for what is swapped out (`memory.swap.max`), that which leaves least. Version 1 has none of its own.
#[must_use]
pub fn swap() -> Option<Limit> {
    tightest(&Groups::of("memory"), &["memory.swap"])
}

/// How a version of control groups calls what it has of each limit.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    max: &'static str,
    current: &'static str,
    /// Figures of `memory.stat` that the kernel drops before it refuses memory.
    droppable: &'static [&'static str],
}

const V1: Version = Version {
    max: "limit_in_bytes",
    current: "usage_in_bytes",
    droppable: &["total_active_file", "total_inactive_file"],
};
const V2: Version = Version {
    max: "max",
    current: "current",
    droppable: &["active_file", "inactive_file", "slab_reclaimable"],
};

/// The group of this process and those around it, innermost first.
#[derive(Debug)]
struct Groups {
    version: &'static Version,
    paths: Vec<PathBuf>,
}

impl Groups {
    /// Those that have a controller.
    fn of(controller: &str) -> Self {
        let text = fs::read_to_string(PROC).unwrap_or_default();
        Self::find(Path::new(ROOT), &text, controller)
    }

    /// `text` is that of /proc/self/cgroup (cgroups(7)): the group of version 2 has number 0 and no controllers, and what a
    /// hierarchy of version 1 controls, that does not.
    fn find(root: &Path, text: &str, controller: &str) -> Self {
        let first = text.lines().find_map(|line| {
            let (_, rest) = line.split_once(':')?;
            let (controllers, path) = rest.split_once(":/")?;
            let mut controllers = controllers.split(',');
            controllers.any(|one| one == controller).then_some(path)
        });
        let second = text.lines().find_map(|line| line.strip_prefix("0::/"));
        let (version, root, own) = match first {
            Some(own) => (&V1, root.join(controller), Some(own)),
            None => (&V2, root.to_owned(), second),
        };
        let own = own.map(|own| root.join(own)).unwrap_or_default();
        let around = own.ancestors().take_while(|group| group.starts_with(&root));
        let paths = around.map(Path::to_owned).collect();
        Self { version, paths }
    }
}

/// A file that tells what is in effect, with its text: of the innermost group that has it, since a group without a controller is
/// as the one around it.
pub(crate) fn effective(name: &str) -> Option<(PathBuf, String)> {
    let read = |group: PathBuf| {
        let file = group.join(name);
        fs::read_to_string(&file).ok().map(|text| (file, text))
    };
    Groups::of("cpuset").paths.into_iter().find_map(read)
}

fn tightest_pool(groups: &Groups, page: PageSize, kinds: &[&str]) -> Option<Limit> {
    let size = match page {
        PageSize::HUGE_2M => "2MB",
        PageSize::HUGE_1G => "1GB",
        _ => return None,
    };
    let names: Vec<String> = (kinds.iter())
        .map(|kind| format!("hugetlb.{size}{kind}"))
        .collect();
    tightest(groups, &names)
}

fn tightest(groups: &Groups, names: &[impl AsRef<str>]) -> Option<Limit> {
    let pairs = groups
        .paths
        .iter()
        .flat_map(|group| names.iter().map(move |name| (group, name)));
    let limits = pairs.filter_map(|(group, name)| limit(groups.version, group, name.as_ref()));
    limits.min_by_key(Limit::left)
}

fn tightest_memory(groups: &Groups) -> Option<Limit> {
    let limits = groups.paths.iter().filter_map(|group| {
        let mut limit = limit(groups.version, group, "memory")?;
        let used = limit
            .current
            .bytes()
            .saturating_sub(caches(groups.version, group));
        limit.current = ByteSize::from_bytes(used);
        Some(limit)
    });
    limits.min_by_key(Limit::left)
}

/// What a group holds of files and other caches, which the kernel drops before it refuses memory.
fn caches(version: &Version, group: &Path) -> u64 {
    let text = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let figure = |line: &str| {
        let (name, value) = line.split_once(' ')?;
        version
            .droppable
            .contains(&name)
            .then(|| value.parse::<u64>().ok())?
    };
    text.lines().filter_map(figure).sum()
}

/// Version 1 has more than this where there is no limit, version 2 the word `max`.
const NO_LIMIT: u64 = 1 << 62;

/// The limit of one group, where it has one.
fn limit(version: &Version, group: &Path, name: &str) -> Option<Limit> {
    let file = group.join(format!("{name}.{}", version.max));
    let max = read_number(&file).ok().filter(|max| *max < NO_LIMIT)?;
    let current = read_number(&group.join(format!("{name}.{}", version.current))).ok()?;
    Some(Limit {
        file,
        max: ByteSize::from_bytes(max),
        current: ByteSize::from_bytes(current),
    })
}

#[cfg(test)]
mod tests;
