//! `ballast doctor`: what this machine has for guests, before any runs; each finding with its state and what to do.

use std::fmt::{self, Write};
use std::fs;
use std::path::Path;

use memory::host::hugepages::{self, Pool};
use memory::host::{ksm, meminfo, numa, pressure, thp};
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
        let mut findings = vec![hardware(), nesting(), nodes(), memory()];
        findings.extend(huge_pages());
        findings.extend([transparent(), merging(), overcommit(), locking(), maps()]);
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
    match kvm::open() {
        Ok(_) => good("kvm", format!("usable, {}", paging(Path::new(MODULES)))),
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

fn paging(modules: &Path) -> String {
    let found = PAGING
        .iter()
        .find_map(|(module, name, people)| Some((parameter(modules, module, name)?, people)));
    match found {
        Some((true, people)) => (*people).to_owned(),
        Some((false, people)) => {
            format!("{people} switched off: guests page by shadow tables, which is slow")
        }
        None => "of a kind that its modules do not tell".to_owned(),
    }
}

fn nesting() -> Finding {
    let nested = |(module, ..): &(&str, _, _)| parameter(Path::new(MODULES), module, "nested");
    match PAGING.iter().find_map(nested) {
        Some(true) => good("nesting", "on: guests can run guests"),
        Some(false) => good("nesting", "off"),
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
            let found = format!("strict: {committed} of {limit} MiB are promised");
            good("overcommit", found)
        }
        "1" => good("overcommit", "always: the host promises whatever is asked"),
        _ => good("overcommit", "by estimate: reserve=on can be refused"),
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
    let count = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap_or_default();
    good("mappings", format!("{} a process", count.trim()))
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
mod tests {
    use super::*;

    #[test]
    fn every_finding_has_a_line() {
        let diagnosis = Diagnosis::make();
        let text = diagnosis.to_string();
        for subject in ["kvm", "numa", "memory", "thp", "ksm", "overcommit", "lock"] {
            let lines = text
                .lines()
                .filter(|line| line.split_whitespace().nth(1) == Some(subject));
            assert_eq!(lines.count(), 1, "{subject} in {text}");
        }
        assert_eq!(diagnosis.is_fit(), !text.contains("BAD"), "{text}");
        for finding in &diagnosis.0 {
            assert_eq!(
                finding.remedy.is_some(),
                finding.state == State::Note,
                "{finding:?}"
            );
        }
    }

    #[test]
    fn knows_the_kinds_of_paging() {
        let modules = tempfile::tempdir().unwrap();
        assert!(paging(modules.path()).contains("do not tell"));
        let parameters = modules.path().join("kvm_amd/parameters");
        fs::create_dir_all(&parameters).unwrap();
        for (value, expected) in [
            ("1\n", "AMD-V with NPT"),
            ("Y\n", "AMD-V with NPT"),
            ("N\n", "AMD-V with NPT switched off"),
        ] {
            fs::write(parameters.join("npt"), value).unwrap();
            assert!(paging(modules.path()).starts_with(expected), "{value}");
        }
    }

    #[test]
    fn what_is_bad_makes_the_machine_unfit() {
        let bad = Finding {
            state: State::Bad,
            ..good("kvm", "no /dev/kvm")
        };
        let diagnosis = Diagnosis(vec![
            good("numa", "one node"),
            bad,
            note("ksm", "stopped", "start it"),
        ]);
        assert!(!diagnosis.is_fit());
        assert_eq!(
            diagnosis.to_string(),
            "ok    numa        one node\nBAD   kvm         no /dev/kvm\nnote  ksm         stopped\n                  to do: start it\n"
        );
    }
}
