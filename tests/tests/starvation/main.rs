//! Memory that the host cannot supply at run time stops the guest with a message, and nothing is lost; what is lost, or
//! broken, is told.

use std::fs;
use std::path::Path;
use std::process::{ChildStdin, Command};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::agent::Agent;
use tests::harness::group::Group;
use tests::harness::hugepages::Pool;
use tests::harness::knob::Knob;
use tests::harness::qmp::Qmp;
use tests::harness::vm::Launch;
use tests::harness::{Error, Result, names};

mod broken;
mod cut;

/// Guest RAM, in huge pages.
const PAGES: u64 = 96;
/// What the pool of its node has: enough for the kernel, not for what the guest writes then.
const FEW: u64 = 52;
/// What the pool of the other node has, for nobody here.
const ELSEWHERE: u64 = 16;
/// The pool of the node that the guest's RAM is bound to.
const OWN: Pool = Pool::node_2m(1);
const OTHER: Pool = Pool::node_2m(0);
/// What the guest writes, in MiB.
const PATTERN: usize = 110;
const PATIENCE: Duration = Duration::from_secs(30);
const STARVED: &str = "x-ballast-MEMORY_STARVED";

/// Has a guest not watch its TSC. Linux holds that of the emulated lab host for unstable (two sockets, no constant TSC),
/// so KVM has the guest's begin where it was and catch up whenever a vCPU comes back. Compared with kvm-clock it jumps, and
/// the guest's kernel says so after any stop, also one by QMP.
const NO_WATCHDOG: &str = "tsc=nowatchdog";

fn tiny() -> Launch {
    Launch::tiny().append(NO_WATCHDOG)
}

fn launch() -> Launch {
    let object = "memory-backend-file,id=mem0,size=192M,mem-path=/dev/hugepages,share=on,reserve=off,\
                  policy=bind,host-nodes=1";
    // A bzImage: the kernel of the host copies it as it is.
    Launch::kernel(names::TINY_IMAGE)
        .append(NO_WATCHDOG)
        .line("-m 192 -machine memory-backend=mem0 -object")
        .arg(object)
}

/// Lets the guest write its pattern while this thread looks on; a guest that is stopped does not answer.
fn fill(mut agent: Agent<ChildStdin>) -> JoinHandle<Result<Agent<ChildStdin>>> {
    thread::spawn(move || agent.fill("pattern", 3, PATTERN).map(|()| agent))
}

/// Notes what the guest's kernel has said so far.
fn note_log(agent: &mut Agent<ChildStdin>) -> Result<()> {
    agent.exec("dmesg > /tmp/log").map(drop)
}

/// The guest's kernel has said nothing since then.
fn has_said_nothing(agent: &mut Agent<ChildStdin>) -> Result<()> {
    // The status of diff(1) says it.
    agent
        .exec("test -s /tmp/log && dmesg | diff /tmp/log -")
        .map(drop)
}

/// Waits for what such a thread does.
fn join<T>(thread: JoinHandle<Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Waits until the guest is stopped for this cause.
fn starved(qmp: &mut Qmp, cause: &str) -> Result<Value> {
    let event = qmp.wait_event(STARVED, PATIENCE)?;
    assert_eq!(event["data"]["cause"], cause, "{event}");
    assert_eq!(event["data"]["backend"], "mem0", "{event}");
    let status = json!({ "status": "io-error", "running": false, "singlestep": false });
    assert_eq!(qmp.command("query-status", Value::Null)?, status);
    Ok(event["data"].clone())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn huge_pages_that_run_out_stop_the_guest() -> Result<()> {
    let elsewhere = OTHER.set(ELSEWHERE)?;
    let small = OWN.set(FEW)?;
    let group = Group::new("hugetlb")?;
    let launch = launch().arg("-S").reboots();
    let mut vm = launch.qmp().under(&group.enter()).start()?;
    let mut qmp = vm.qmp()?;
    a_limit_stops_the_kernel(&mut qmp, &group)?;
    let mut agent = vm.boot()?;
    note_log(&mut agent)?;
    let filling = fill(agent);

    let data = starved(&mut qmp, "pool-empty")?;
    assert_eq!(
        (&data["page-size"], &data["host-nodes"], &data["data-lost"]),
        (&json!(2 << 20), &json!([1]), &json!(false)),
        "{data}"
    );
    // The other node has enough, which is of no use.
    assert_eq!(OTHER.pages()?.free, ELSEWHERE);
    let message = data["message"].as_str().unwrap_or_default();
    let pool = format!("0 free ({FEW} in the pool");
    assert!(message.contains("'mem0'") && message.contains(&pool), "{message}");
    let said = vm.errors.text();
    assert!(said.contains(message), "{message} is not in {said}");

    // Without more memory it only stops again.
    qmp.command("cont", Value::Null)?;
    starved(&mut qmp, "pool-empty")?;

    let large = OWN.set(PAGES)?;
    qmp.command("cont", Value::Null)?;
    let mut agent = join(filling)?;
    assert_eq!(qmp.command("query-status", Value::Null)?["status"], "running");
    agent.verify("pattern")?;
    has_said_nothing(&mut agent)?;
    a_reset_waits_for_pages(&mut qmp)?;
    qmp.command("quit", Value::Null)?;
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(0), "{}", vm.errors.text());
    drop(large);
    let pages = OWN.pages()?;
    assert_eq!((pages.total, pages.free), (FEW, FEW));

    a_guest_that_nobody_watches_ends()?;
    drop((small, elsewhere));
    Ok(())
}

/// The pool has pages, of which the control group gets no more. A kernel that has not yet switched interrupts on shows it: KVM
/// takes the page in the vCPU's thread then.
fn a_limit_stops_the_kernel(qmp: &mut Qmp, group: &Group) -> Result<()> {
    const LIMIT: &str = "hugetlb.2MB.max";
    let current = group.file("hugetlb.2MB.current");
    let used = fs::read_to_string(&current).map_err(Error::file("read", &current))?;
    group.set(LIMIT, used.trim())?;
    qmp.command("cont", Value::Null)?;
    let data = starved(qmp, "cgroup-limit")?;
    assert!(OWN.pages()?.free > 0);
    let message = data["message"].as_str().unwrap_or_default();
    let limit = group.file(LIMIT);
    let text = format!(" left by {}", limit.display());
    assert!(message.contains(&text), "{message}");
    group.limit(LIMIT, None)?;
    qmp.command("cont", Value::Null)?;
    Ok(())
}

/// The pages that the old guest had are no longer of the pool when it gives them back, and the kernel is longer than what is left.
fn a_reset_waits_for_pages(qmp: &mut Qmp) -> Result<()> {
    let few = Knob::set(&OWN.file("nr_hugepages"), "1")?;
    qmp.command("system_reset", Value::Null)?;
    let data = starved(qmp, "pool-empty")?;
    let message = data["message"].as_str().unwrap_or_default();
    assert!(message.contains("needed by the reset"), "{message}");
    drop(few);
    qmp.command("cont", Value::Null)?;
    qmp.wait_event("RESET", PATIENCE)?;
    assert_eq!(qmp.command("query-status", Value::Null)?["status"], "running");
    Ok(())
}

/// Nobody could say `cont`: the failure shows in the exit code.
fn a_guest_that_nobody_watches_ends() -> Result<()> {
    let mut vm = launch().start()?;
    let agent = vm.boot()?;
    fill(agent);
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(2), "{}", vm.errors.text());
    let said = vm.errors.text();
    let pool = format!("0 free ({FEW} in the pool");
    assert!(said.contains("'mem0'") && said.contains(&pool), "{said}");
    assert_eq!(OWN.pages()?.free, FEW);
    Ok(())
}

/// A tmpfs of a size; unmounted when dropped.
struct Tmpfs(tempfile::TempDir);

impl Tmpfs {
    fn new(mebibytes: u64) -> Result<Tmpfs> {
        let place = tempfile::tempdir().map_err(Error::file("create", Path::new("/tmp")))?;
        let tmpfs = Tmpfs(place);
        tmpfs.mount(&format!("size={mebibytes}M"))?;
        Ok(tmpfs)
    }

    fn mount(&self, options: &str) -> Result<()> {
        let status = Command::new("/bin/mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(self.0.path())
            .status();
        let status = status.map_err(Error::file("mount", self.0.path()))?;
        assert!(status.success(), "mount -o {options}: {status}");
        Ok(())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let status = Command::new("/bin/umount").arg(self.0.path()).status();
        assert!(status.is_ok_and(|status| status.success()) || thread::panicking());
    }
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_file_system_that_is_full_stops_the_guest() -> Result<()> {
    let tmpfs = Tmpfs::new(100)?;
    let object = format!(
        "memory-backend-file,id=mem0,size=192M,mem-path={}",
        tmpfs.0.path().display()
    );
    let launch = tiny().line("-m 192 -machine memory-backend=mem0 -object");
    let mut vm = launch.arg(object).qmp().start()?;
    let mut qmp = vm.qmp()?;
    let mut agent = vm.boot()?;
    note_log(&mut agent)?;
    let filling = fill(agent);
    starved(&mut qmp, "file-system-full")?;
    tmpfs.mount("remount,size=200M")?;
    qmp.command("cont", Value::Null)?;
    let mut agent = join(filling).map_err(|error| vm.explain(error))?;
    agent.verify("pattern").map_err(|error| vm.explain(error))?;
    has_said_nothing(&mut agent).map_err(|error| vm.explain(error))
}

fn poke(agent: &mut Agent<ChildStdin>, address: u64, value: u32) -> Result<()> {
    agent
        .exec(&format!("devmem {address:#x} 32 {value:#x}"))
        .map(drop)
}

fn peek(agent: &mut Agent<ChildStdin>, address: u64) -> Result<String> {
    let text = agent.exec(&format!("devmem {address:#x} 32"))?;
    Ok(text.trim().to_owned())
}
