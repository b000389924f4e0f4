//! What took effect for a backend, read back from the kernel and not copied from the request.

use std::fmt;
use std::io;

use crate::backend::{Backend, BackendSpec, Lock, Thp};
use crate::mapping::Mapping;
use crate::policy;
use crate::proc::{self, Smaps};
use crate::residency;
use crate::size::{ByteSize, PageSize};

/// The effective state of a backend at the end of its start. Sources are the fields of /proc/self/smaps and numa_maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// What the memory is, for people: `hugetlb memfd`.
    pub kind: String,
    /// The size of the mapping.
    pub size: ByteSize,
    /// The size of its pages (`KernelPageSize`).
    pub page_size: PageSize,
    /// Mapped shared (`VmFlags: sh`).
    pub share: bool,
    /// Accounted by the host: for huge pages a reservation in the pool (no `nr`), for private memory part of the commit charge
    /// (`ac`), for shared memory that all of it is there.
    pub reserve: bool,
    /// All of it was there when it was read, in RAM or in swap.
    pub prealloc: bool,
    /// KSM looks at it (`mg`).
    pub merge: bool,
    /// The kernel may use transparent huge pages (`THPeligible`).
    pub thp: bool,
    /// Its pages stay in RAM once they are there: locked (`lo`), or of a hugetlb pool.
    pub lock: bool,
    /// Core dumps hold it (no `dd`).
    pub dump: bool,
    /// The policy as the kernel has it: `default`, `bind 0-1`, or another that the process was started with.
    pub policy: String,
}

impl Effective {
    /// Reads the state of `mapping`.
    ///
    /// # Errors
    /// When /proc cannot be read.
    pub fn read(backend: &dyn Backend, mapping: &Mapping) -> io::Result<Self> {
        // Before the guest runs nobody takes pages back from swap: those that leave between the two are counted twice.
        let resident = residency::resident(backend, mapping)?;
        let smaps = proc::smaps(mapping)?;
        let numa = proc::numa_maps(mapping)?;
        let size = ByteSize::from_bytes(mapping.len());
        let page_size = PageSize::from_bytes(smaps.size("KernelPageSize").bytes());
        let page_size = page_size.unwrap_or(backend.page_size());
        let share = smaps.flag("sh");
        // What a file in memory has in swap is in `resident` already.
        let swapped = if share { ByteSize::ZERO } else { smaps.size("Swap") };
        let prealloc = resident.bytes().saturating_add(swapped.bytes()) >= size.bytes();
        let reserve = match (page_size.is_huge(), share) {
            (true, _) => !smaps.flag("nr"),
            (false, true) => prealloc,
            (false, false) => smaps.flag("ac"),
        };
        Ok(Self {
            kind: backend.describe(),
            size,
            page_size,
            share,
            reserve,
            prealloc,
            merge: smaps.flag("mg"),
            thp: smaps.number("THPeligible") != 0,
            lock: smaps.flag("lo") || page_size.is_huge(),
            dump: !smaps.flag("dd"),
            policy: numa.map_or_else(|| "default".to_owned(), |numa| policy::read_back(&numa)),
        })
    }

    /// The same with the advice of `smaps`, which is newer.
    pub(crate) fn with_advice(&self, smaps: &Smaps) -> Self {
        Self {
            merge: smaps.flag("mg"),
            dump: !smaps.flag("dd"),
            ..self.clone()
        }
    }

    /// One line: what took effect, and behind it what was asked where that differs.
    #[must_use]
    pub fn summary(&self, spec: &BackendSpec) -> String {
        let asked_policy = spec.policy.to_string();
        let policy = match self.policy == asked_policy {
            true => self.policy.clone(),
            false => format!("{} (asked {asked_policy})", self.policy),
        };
        let switches = self
            .switches(spec)
            .map(|(name, is, asked)| switch(name, is, asked));
        format!(
            "backend '{}': {self}: {}, policy={policy}",
            spec.id,
            switches.join(", ")
        )
    }

    /// The properties that were asked for and are not in effect, by their names on the command line.
    #[must_use]
    pub fn differs(&self, spec: &BackendSpec) -> Vec<&'static str> {
        let switches = self.switches(spec).into_iter();
        let differing = switches.filter(|(_, is, asked)| asked.is_some_and(|asked| asked != *is));
        let policy = (self.policy != spec.policy.to_string()).then_some("policy");
        differing.map(|(name, _, _)| name).chain(policy).collect()
    }

    /// What is on or off: the name, what is in effect, and what was asked, if anything was.
    fn switches(&self, spec: &BackendSpec) -> [(&'static str, bool, Option<bool>); 7] {
        let thp = match spec.thp {
            Thp::Default => None,
            Thp::On => Some(true),
            Thp::Off => Some(false),
        };
        let lock = (spec.lock != Lock::Off).then_some(true);
        [
            ("share", self.share, spec.share),
            ("reserve", self.reserve, spec.reserve),
            ("prealloc", self.prealloc, Some(spec.prealloc.wanted())),
            ("merge", self.merge, Some(spec.merge.wanted())),
            ("thp", self.thp, thp),
            ("lock", self.lock, lock),
            ("dump", self.dump, Some(spec.dump)),
        ]
    }
}

/// `512 MiB of hugetlb memfd, pages of 2 MiB`.
impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}, pages of {}", self.size, self.kind, self.page_size)
    }
}

/// `name=on`, with what was asked where it was asked and differs.
fn switch(name: &str, is: bool, asked: Option<bool>) -> String {
    let word = |on| if on { "on" } else { "off" };
    match asked {
        Some(asked) if asked != is => format!("{name}={} (asked {})", word(is), word(asked)),
        Some(_) | None => format!("{name}={}", word(is)),
    }
}

#[cfg(test)]
mod tests;
