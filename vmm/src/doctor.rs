//! `ballast doctor`: what this machine has for guests, before any runs; each finding with its state and what to do.

use std::fmt::{self, Write};
use std::fs;
use std::path::Path;

use memory::host::hugepages::{self, Pool};
use memory::host::{cgroup, ksm, meminfo, numa, pressure, thp};
use memory::size::ByteSize;
use rustix::process::{Resource, getrlimit};

use crate::kvm;

/// How good a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// As it should be.
    Good,
    /// Guests run; something that a user may want does not work.
    Note,
    /// No guest runs.
    Bad,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    subject: &'static str,
    state: State,
    found: String,
    /// What to do, where there is something.
    remedy: Option<String>,
}

/// All findings, in the order in which they matter.
#[derive(Clone, Debug)]
pub struct Diagnosis(Vec<Finding>);

impl Diagnosis {
    /// Looks at the machine. Changes nothing.
    pub fn make() -> Diagnosis {
        let mut findings = vec![hardware(), nesting(Path::new(MODULES)), nodes(), memory()];
        findings.extend(huge_pages());
        findings.extend([
            transparent(),
            merging(),
            overcommit(),
            limits(),
            locking(),
            maps(),
        ]);
        findings.extend(waiting());
        Diagnosis(findings)
    }

    /// Whether guests can run.
    pub fn is_fit(&self) -> bool {
        self.0.iter().all(|finding| finding.state != State::Bad)
    }
}

/// One line a finding, and one more for what to do.
impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.0 {
            let state = match finding.state {
                State::Good => "ok",
                State::Note => "note",
                State::Bad => "BAD",
            };
            writeln!(f, "{state:<5} {:<11} {}", finding.subject, finding.found)?;
            if let Some(remedy) = &finding.remedy {
                writeln!(f, "{:<17} to do: {remedy}", "")?;
            }
        }
        Ok(())
    }
}

fn good(subject: &'static str, found: impl Into<String>) -> Finding {
    Finding {
        subject,
        state: State::Good,
        found: found.into(),
        remedy: None,
    }
}

fn note(subject: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
    Finding {
        state: State::Note,
        remedy: Some(remedy.into()),
        ..good(subject, found)
    }
}

fn hardware() -> Finding {
    match kvm::open().and_then(|_| kvm::runs_kernels()) {
        Ok(()) => paging(Path::new(MODULES)),
        // The message says what to do.
        Err(error) => Finding {
            state: State::Bad,
            ..good("kvm", error.to_string())
        },
    }
}

const MODULES: &str = "/sys/module";
/// The module, its parameter for paging in hardware, and the names of both for people.
const PAGING: [(&str, &str, &str); 2] = [
    ("kvm_intel", "ept", "Intel VT-x with EPT"),
    ("kvm_amd", "npt", "AMD-V with NPT"),
];

/// Whether a parameter of a module is on; `None` where the module is not there.
fn parameter(modules: &Path, module: &str, name: &str) -> Option<bool> {
    let text = fs::read_to_string(modules.join(module).join("parameters").join(name)).ok()?;
    Some(matches!(text.trim(), "Y" | "1"))
}

fn paging(modules: &Path) -> Finding {
    let found = (PAGING.iter()).find_map(|row| Some((parameter(modules, row.0, row.1)?, row)));
    match found {
        Some((true, (_, _, people))) => good("kvm", format!("usable, {people}")),
        Some((false, (module, name, people))) => note(
            "kvm",
            format!("usable, {people} switched off: guests page by shadow tables, which is slow"),
            format!("as root, without guests: rmmod {module} && modprobe {module} {name}=1"),
        ),
        None => good("kvm", "usable, of a kind that its modules do not tell"),
    }
}

fn nesting(modules: &Path) -> Finding {
    let nested = |row: &'static (&str, _, _)| Some((parameter(modules, row.0, "nested")?, row.0));
    match PAGING.iter().find_map(nested) {
        Some((true, _)) => good("nesting", "on: guests can run guests"),
        Some((false, module)) => note(
            "nesting",
            "off",
            format!(
                "for guests that run guests, as root, without guests: rmmod {module} && modprobe {module} nested=1"
            ),
        ),
        None => good("nesting", "the modules of KVM do not tell"),
    }
}

fn nodes() -> Finding {
    let nodes = numa::nodes();
    let one = |node: u32| {
        let amounts = meminfo::node(node);
        let size = |name| amounts.size(name).map_or(0, |size| size.bytes() >> 20);
        let cpus = Some(numa::cpu_list(node)).filter(|cpus| !cpus.is_empty());
        let cpus = cpus.unwrap_or_else(|| "none".to_owned());
        format!(
            "node {node} has CPUs {cpus}, {} of {} MiB free",
            size("MemFree"),
            size("MemTotal")
        )
    };
    good("numa", nodes.iter().map(one).collect::<Vec<_>>().join("; "))
}

fn memory() -> Finding {
    let amounts = meminfo::host();
    let size = |name| amounts.size(name).map_or(0, |size| size.bytes() >> 20);
    let found = format!(
        "{} of {} MiB available, {} of {} MiB of swap free",
        size("MemAvailable"),
        size("MemTotal"),
        size("SwapFree"),
        size("SwapTotal")
    );
    good("memory", found)
}

/// A finding for each page size, with the nodes in it.
fn huge_pages() -> Vec<Finding> {
    let by_node = hugepages::pools_by_node();
    let one = |pool: &Pool| {
        let mut found = format!("pages of {}: {pool}", pool.page);
        for node in by_node.iter().filter(|node| node.page == pool.page) {
            let nodes = node.nodes.as_ref().map(ToString::to_string).unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = write!(
                found,
                ", node {nodes}: {} of {}",
                node.total - node.used,
                node.total
            );
        }
        match pool.total {
            0 => note(
                "huge pages",
                found,
                format!("to use them, {}", pool.remedy(ByteSize::gib(1).pages(pool.page))),
            ),
            _ => good("huge pages", found),
        }
    };
    hugepages::pools().iter().map(one).collect()
}

fn transparent() -> Finding {
    let word = |file| thp::choice(file).unwrap_or_else(|| "not in this kernel".to_owned());
    let (private, shared) = (word("enabled"), word("shmem_enabled"));
    let found = format!("private memory: {private}, shared memory: {shared}");
    match private.as_str() {
        "always" | "madvise" => good("thp", found),
        _ => note(
            "thp",
            found,
            "for thp=on, as root: echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
        ),
    }
}

fn merging() -> Finding {
    match ksm::host() {
        None => good("ksm", "not in this kernel"),
        Some(host) if host.is_running() => good("ksm", "running"),
        Some(_) => note(
            "ksm",
            "stopped",
            "for merge=on, as root: echo 1 > /sys/kernel/mm/ksm/run",
        ),
    }
}

fn overcommit() -> Finding {
    let mode = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
    match mode.trim() {
        "2" => {
            let amounts = meminfo::host();
            let size = |name| amounts.size(name).map_or(0, |size| size.bytes() >> 20);
            let (limit, committed) = (size("CommitLimit"), size("Committed_AS"));
            note(
                "overcommit",
                format!("strict: {committed} of {limit} MiB are promised"),
                "for more guests, as root: sysctl vm.overcommit_ratio=100, or vm.overcommit_memory=0",
            )
        }
        "1" => good("overcommit", "always: the host promises whatever is asked"),
        _ => good("overcommit", "by estimate: reserve=on can be refused"),
    }
}

/// What control groups leave to a guest that is started from here.
fn limits() -> Finding {
    let pools = hugepages::pools();
    let pools = pools.iter().filter_map(|pool| cgroup::huge_pages(pool.page));
    let limits: Vec<String> = cgroup::memory()
        .into_iter()
        .chain(pools)
        .map(|limit| limit.to_string())
        .collect();
    match limits.is_empty() {
        true => good("limits", "no control group limits memory or huge pages"),
        false => note(
            "limits",
            limits.join("; "),
            "for larger guests, as root, raise what is in these files",
        ),
    }
}

fn locking() -> Finding {
    match getrlimit(Resource::Memlock).current {
        None => good("lock", "no limit"),
        Some(_) if may_lock() => good("lock", "no limit, with CAP_IPC_LOCK"),
        Some(limit) => {
            let found = format!("RLIMIT_MEMLOCK is {}", ByteSize::from_bytes(limit));
            note("lock", found, "for lock=on, ulimit -l, or CAP_IPC_LOCK")
        }
    }
}

/// Whether the limit does not hold for this process (capabilities(7)).
fn may_lock() -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    capabilities.is_some_and(|bits| bits & 1 << CAP_IPC_LOCK != 0)
}

/// Mappings, of which a guest needs few (sysctl `vm.max_map_count`).
fn maps() -> Finding {
    let text = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    let found = format!("{} a process", text.trim());
    match text.trim().parse::<u32>() {
        // The kernel's default.
        Ok(count) if count < 65530 => note("mappings", found, "as root: sysctl vm.max_map_count=65530"),
        _ => good("mappings", found),
    }
}

fn waiting() -> Option<Finding> {
    let now = pressure::memory()?;
    let found = format!(
        "{} % of the last minute some task waited for memory, {} % all did",
        now.some.average[1], now.full.average[1]
    );
    Some(match now.full.average[1] > 1.0 {
        true => note(
            "pressure",
            found,
            "run fewer guests, or take memory back from some",
        ),
        false => good("pressure", found),
    })
}

#[cfg(test)]
mod tests;
