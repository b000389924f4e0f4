//! Memory that is bound to a node of the host lies there, or the guest does not start.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::harness::backing::{self, Backing, HUGE_PAGE};
use tests::harness::group::Group;
use tests::harness::hugepages::{ALL_2M, Pages, Pool};
use tests::harness::knob::Knob;
use tests::harness::vm::{Launch, Vm};
use tests::harness::{Error, Result};

/// The guest's RAM in MiB.
const RAM: u64 = 128;
const RAM_BYTES: u64 = RAM << 20;
const PAGES: u64 = RAM_BYTES / HUGE_PAGE;
const BOUND: &str = ",host-nodes=1,policy=bind,prealloc=on";
/// Starts a program on the first processor, which is on node 0.
const ON_NODE_0: [&str; 2] = ["taskset", "1"];
const NODE_0: Pool = Pool::node_2m(0);
const NODE_1: Pool = Pool::node_2m(1);
/// How long Ballast may take to end.
const END: Duration = Duration::from_secs(10);

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn anonymous_memory_lies_on_its_node() -> Result<()> {
    lies_on_node_1(Backing::Anonymous)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_memfd_lies_on_its_node() -> Result<()> {
    lies_on_node_1(Backing::Memfd)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn huge_pages_lie_on_their_node() -> Result<()> {
    // As many on the other node, so that the wrong ones could be taken.
    let _pools = (NODE_0.set(PAGES)?, NODE_1.set(PAGES)?);
    for kind in [Backing::HugeMemfd, Backing::HugeDirectory] {
        lies_on_node_1(kind)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_short_pool_is_told_with_its_figures() -> Result<()> {
    let _pools = (NODE_0.set(0)?, NODE_1.set(16)?);
    let _reserved = Reservation::of(4)?;
    let before = (pages(NODE_1)?, pages(ALL_2M)?);
    assert_eq!(before.1.reserved, Some(4));
    refuses(
        RAM,
        "backend 'mem0' needs 64 pages of 2 MiB on node 1: 12 free (16 in the pool, 4 reserved)",
    )?;
    assert_eq!((pages(NODE_1)?, pages(ALL_2M)?), before);
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn pages_of_other_guests_and_nodes_do_not_count() -> Result<()> {
    // Another guest uses some of node 1's pages and has a promise of more; node 0 could serve all of it, but may not.
    let _pools = (NODE_0.set(PAGES)?, NODE_1.set(PAGES)?);
    let neighbour = Backing::HugeMemfd
        .launch(Launch::tiny().arg("-S").qmp(), RAM, BOUND)
        .start()?;
    neighbour.qmp()?;
    assert_eq!(pages(NODE_1)?.free, 0);
    let before = (pages(NODE_0)?, pages(NODE_1)?, pages(ALL_2M)?);
    refuses(
        RAM / 2,
        "backend 'mem0' needs 32 pages of 2 MiB on node 1: 0 free (64 in the pool, 0 reserved, 64 in use)",
    )?;
    assert_eq!((pages(NODE_0)?, pages(NODE_1)?, pages(ALL_2M)?), before);
    Ok(())
}

fn lies_on_node_1(kind: Backing) -> Result<()> {
    let launch = Launch::tiny().qmp().under(&ON_NODE_0);
    let mut vm = kind.launch(launch, RAM, BOUND).start()?;
    let everything = BTreeMap::from([(1, RAM_BYTES)]);
    let mut agent = vm.boot()?;
    assert_eq!(backing::nodes(&vm)?, everything, "{kind:?}");
    let line = tests::harness::maps::numa_line(vm.pid(), &backing::only_mapping(&vm)?)?;
    assert!(line.contains(" bind:1 "), "{line}");
    assert_runs_on_node_0(&vm)?;
    if kind.is_huge() {
        assert_eq!((pages(NODE_0)?.free, pages(NODE_1)?.free), (PAGES, 0));
    }
    agent.power_off()?;
    assert!(vm.wait(END)?.success(), "{}", vm.errors.text());
    Ok(())
}

/// Its first thread still runs where it was started.
fn assert_runs_on_node_0(vm: &Vm) -> Result<()> {
    let path = format!("/proc/{}/status", vm.pid());
    let path = Path::new(&path);
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    assert!(text.contains("Cpus_allowed_list:\t0\n"), "{text}");
    Ok(())
}

/// The kernel takes huge pages of another node where a policy only prefers one.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn pages_elsewhere_are_an_error_or_told() -> Result<()> {
    let _pools = (NODE_0.set(PAGES)?, NODE_1.set(0)?);
    let preferred = |strict| format!(",host-nodes=1,policy=preferred,prealloc=on,strict={strict}");
    let launch = |strict| {
        let launch = Launch::tiny().arg("-S").qmp();
        Backing::HugeMemfd.launch(launch, RAM, &preferred(strict)).start()
    };
    let mut refused = launch("on")?;
    assert_eq!(refused.wait(END)?.code(), Some(1));
    let said = "backend 'mem0' has policy preferred 1, but ";
    let text = format!("ballast: {said}{RAM} MiB too much on node 0\n");
    assert_eq!(refused.errors.text(), text);
    assert_eq!(pages(NODE_0)?.free, PAGES);

    let vm = launch("off")?;
    let mut qmp = vm.qmp()?;
    let warning = format!("ballast: warning: {said}{RAM} MiB too much on node 0\n");
    vm.errors.wait_for(&warning, 0, END)?;
    let report = qmp.command("x-ballast-query-memory", Value::Null)?["backends"][0].take();
    assert_eq!(report["misplaced"], RAM_BYTES);
    let told = qmp.wait_event("x-ballast-MEMORY_MISPLACED", END)?["data"].take();
    let nodes = json!([{ "node": 0, "bytes": RAM_BYTES }]);
    assert_eq!(
        (&told["id"], &told["misplaced"], &told["nodes"]),
        (&report["id"], &json!(RAM_BYTES), &nodes)
    );
    assert_eq!(backing::nodes(&vm)?, BTreeMap::from([(0, RAM_BYTES)]));
    Ok(())
}

/// A guest of this many MiB of huge pages on node 1 does not start, for this reason, and leaves nothing.
fn refuses(mebibytes: u64, reason: &str) -> Result<()> {
    let mut vm = Backing::HugeDirectory
        .launch(Launch::tiny().under(&ON_NODE_0), mebibytes, BOUND)
        .start()?;
    let status = vm.wait(END)?;
    let errors = vm.errors.text();
    assert_eq!(status.code(), Some(1), "{errors}");
    assert!(errors.starts_with(&format!("ballast: {reason}; ")), "{errors}");
    assert_eq!(errors.lines().count(), 1, "{errors}");
    let path = Path::new("/dev/hugepages");
    let left = fs::read_dir(path).map_err(Error::file("list", path))?.count();
    assert_eq!(left, 0);
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_cpuset_without_the_node_is_named() -> Result<()> {
    let group = Group::new("cpuset")?;
    group.set("cpuset.mems", "0")?;
    for policy in ["bind", "preferred-many"] {
        let properties = format!(",host-nodes=0-1,policy={policy}");
        let launch = Launch::tiny().under(&group.enter());
        let mut vm = Backing::Memfd.launch(launch, RAM, &properties).start()?;
        let status = vm.wait(END)?;
        let errors = vm.errors.text();
        assert_eq!(status.code(), Some(1), "{errors}");
        let file = group.file("cpuset.mems.effective");
        let reason = format!(
            "asks for host node 1, but the cpuset of the control group has only memory of node 0 ({})",
            file.display()
        );
        assert!(errors.contains(&reason), "{errors}");
    }
    Ok(())
}

fn pages(pool: Pool) -> Result<Pages> {
    pool.pages()
}

/// Pages that a hugetlbfs without a file keeps for itself (its mount option `min_size`).
struct Reservation {
    place: TempDir,
}

impl Reservation {
    fn of(pages: u64) -> Result<Reservation> {
        let place = tempfile::tempdir().map_err(Error::file("create", Path::new("/tmp")))?;
        let options = format!("pagesize=2M,min_size={}", pages * HUGE_PAGE);
        let options = std::ffi::CString::new(options).unwrap_or_default();
        let mounted = mount(
            "none",
            place.path(),
            "hugetlbfs",
            MountFlags::empty(),
            Some(options.as_c_str()),
        );
        mounted.map_err(|error| Error::file("mount", place.path())(error.into()))?;
        Ok(Reservation { place })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Err(error) = unmount(self.place.path(), UnmountFlags::empty()) {
            eprintln!("cannot unmount {}: {error}", self.place.path().display());
        }
    }
}

/// `ballast doctor` finds a KVM, both nodes, and how the host is set up.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn the_doctor_finds_both_nodes() -> Result<()> {
    let _pool = NODE_1.set(16)?;
    let program = std::env::var_os(tests::harness::vm::PROGRAM).unwrap_or_else(|| "ballast".into());
    let _thp = Knob::set("/sys/kernel/mm/transparent_hugepage/enabled".as_ref(), "never")?;
    let _ksm = Knob::set("/sys/kernel/mm/ksm/run".as_ref(), "1")?;
    let group = Group::new("memory")?;
    group.limit("memory.max", Some(1 << 30))?;
    let [shell, words @ ..] = group.enter();
    let output = std::process::Command::new(shell)
        .args(words)
        .arg(&program)
        .arg("doctor")
        .output()
        .map_err(Error::file("run", Path::new(&program)))?;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.starts_with("ok    kvm         usable, "), "{text}");
    for part in [
        "node 0 has CPUs ",
        "; node 1 has CPUs ",
        "node 0: 0 of 0, node 1: 16 of 16",
        "note  thp         private memory: never, ",
        "to do: for thp=on, as root: echo madvise > ",
        "\nok    ksm         running\n",
        "\nnote  limits      ",
        "/memory.max\n",
        "\nok    lock        no limit",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    Ok(())
}
