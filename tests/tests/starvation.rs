//! Memory that the host cannot supply at run time stops the guest with a message, and nothing is lost; what is lost, or
//! broken, is told.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::agent::{Agent, BOOT};
use tests::harness::backing;
use tests::harness::hugepages::Pool;
use tests::harness::qmp::Qmp;
use tests::harness::vm::{Launch, Vm};
use tests::harness::{Error, Result};

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

/// A guest that does not watch its TSC. Linux holds that of the emulated lab host for unstable (two sockets, no constant TSC),
/// so KVM has the guest's begin where it was and catch up whenever a vCPU comes back. Compared with kvm-clock it jumps, and
/// the guest's kernel says so after any stop, also one by QMP.
fn tiny() -> Launch {
    Launch::tiny().append("tsc=nowatchdog")
}

fn launch() -> Launch {
    let object = "memory-backend-file,id=mem0,size=192M,mem-path=/dev/hugepages,share=on,reserve=off,\
                  policy=bind,host-nodes=1";
    tiny()
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

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::file("write", path))
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn huge_pages_that_run_out_stop_the_guest() -> Result<()> {
    let elsewhere = OTHER.set(ELSEWHERE)?;
    let small = OWN.set(FEW)?;
    let mut vm = launch().qmp().start()?;
    let mut qmp = vm.qmp()?;
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
    qmp.command("quit", Value::Null)?;
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(0), "{}", vm.errors.text());
    drop(large);
    let pages = OWN.pages()?;
    assert_eq!((pages.total, pages.free), (FEW, FEW));

    a_guest_that_nobody_watches_ends()?;
    drop((small, elsewhere));
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

/// What the guest's kernel knows of its RAM, in MiB, where the test alone touches the rest.
const KNOWN: u32 = 160;
/// RAM of the guest whose file is cut, in MiB: the initramfs lies below the hole, and nothing but what the test touches above it.
const CUT_RAM: u64 = 3 * 1024 + 64;
/// The size of the hole: above it, an offset into the file is this much less than the guest's address.
const HOLE: u64 = 1 << 30;
/// Places above the hole.
const TOUCHED: u64 = (4 << 30) + (8 << 20);
const UNTOUCHED: u64 = (4 << 30) + (24 << 20);
/// Between them.
const BETWEEN: u64 = (4 << 30) + (16 << 20);

/// A file for RAM.
struct Backing {
    file: File,
    /// MiB.
    size: u64,
    directory: tempfile::TempDir,
}

impl Backing {
    fn new(size: u64) -> Result<Backing> {
        let place = Path::new("/dev/shm");
        let directory = tempfile::tempdir_in(place).map_err(Error::file("create", place))?;
        let path = directory.path().join("ram");
        let options = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path);
        Ok(Backing {
            file: options.map_err(Error::file("create", &path))?,
            size,
            directory,
        })
    }

    /// `more`: properties of its backend.
    fn launch(&self, more: &str) -> Launch {
        let size = self.size;
        let path = self.directory.path().join("ram");
        let object = format!(
            "memory-backend-file,id=mem0,size={size}M,mem-path={},share=on{more}",
            path.display()
        );
        let line = format!("-m {size} -machine memory-backend=mem0 -object {object}");
        tiny().append(&format!("mem={KNOWN}M")).line(&line)
    }

    fn set(&self, bytes: u64) -> Result<()> {
        let path = self.directory.path();
        self.file.set_len(bytes).map_err(Error::file("cut", path))
    }
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

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_file_that_is_cut_stops_the_guest() -> Result<()> {
    let backing = Backing::new(CUT_RAM)?;
    let launch = backing.launch("").line("-device virtio-balloon-pci,id=balloon0");
    let mut vm = launch.reboots().qmp().start()?;
    let mut qmp = vm.qmp()?;
    let mut agent = vm.boot()?;
    agent.fill("pattern", 5, 24)?;
    poke(&mut agent, TOUCHED, 0x1234_5678)?;
    note_log(&mut agent)?;

    // Behind what was touched: nothing is lost, and the guest only stops when it comes there.
    backing.set(BETWEEN - HOLE)?;
    let poking = thread::spawn(move || poke(&mut agent, UNTOUCHED, 7).map(|()| agent));
    let data = starved(&mut qmp, "file-cut")?;
    assert_eq!(data["data-lost"], false, "{data}");
    let message = data["message"].as_str().unwrap_or_default();
    assert!(
        message.contains("its file has 3088 MiB of the 3136 MiB needed"),
        "{message}"
    );
    backing.set(CUT_RAM << 20)?;
    qmp.command("cont", Value::Null)?;
    let mut agent = join(poking)?;
    assert_eq!(peek(&mut agent, UNTOUCHED)?, "0x00000007");
    assert_eq!(peek(&mut agent, TOUCHED)?, "0x12345678");

    // A device's worker waits for a page of its rings; QMP does not wait for the worker.
    qmp.command("stop", Value::Null)?;
    let mut bytes = vec![0; usize::try_from(KNOWN << 20).unwrap_or(usize::MAX)];
    let file = &backing.file;
    let copying = |error| Error::Connection(format!("cannot copy the guest's RAM: {error}"));
    file.read_exact_at(&mut bytes, 0).map_err(copying)?;
    backing.set(0)?;
    let interval = json!({ "path": "/machine/peripheral/balloon0", "property": "guest-stats-polling-interval", "value": 1 });
    qmp.command("qom-set", interval)?;
    let data = starved(&mut qmp, "file-cut")?;
    assert!(data["vcpu"].is_null() && data["address"].is_u64(), "{data}");
    assert_eq!(data["data-lost"], true, "{data}");
    qmp.command("query-balloon", Value::Null)?;
    qmp.command("balloon", json!({ "value": (CUT_RAM - 8) << 20 }))?;
    qmp.monitor("info balloon -v")?;
    qmp.monitor("info guest-stats")?;
    qmp.command("x-ballast-query-memory", Value::Null)?;
    assert!(
        matches!(qmp.command("cont", Value::Null), Err(Error::Qmp { text, .. }) if text.contains("force"))
    );
    backing.set(CUT_RAM << 20)?;
    file.write_all_at(&bytes, 0)
        .and_then(|()| file.write_all_at(&0x1234_5678_u32.to_le_bytes(), TOUCHED - HOLE))
        .map_err(copying)?;
    qmp.command("cont", json!({ "force": true }))?;
    agent.verify("pattern")?;
    assert_eq!(peek(&mut agent, TOUCHED)?, "0x12345678");
    has_said_nothing(&mut agent)?;

    // Through what was touched: told before the guest comes there.
    thread::sleep(Duration::from_millis(600));
    backing.set(TOUCHED - HOLE)?;
    let data = starved(&mut qmp, "file-cut")?;
    assert_eq!(
        (&data["data-lost"], &data["vcpu"]),
        (&json!(true), &Value::Null),
        "{data}"
    );
    backing.set(CUT_RAM << 20)?;
    let refused = qmp.monitor("cont")?;
    assert!(refused.contains("force=true"), "{refused}");
    assert_eq!(qmp.monitor("cont force")?, "");
    assert_eq!(peek(&mut agent, TOUCHED)?, "0x00000000");
    agent.verify("pattern")?;

    // A reset needs memory too: it says so though the machine stands still already. What was lost is nobody's any more.
    backing.set(0)?;
    assert_eq!(starved(&mut qmp, "file-cut")?["data-lost"], true);
    qmp.command("system_reset", Value::Null)?;
    let data = starved(&mut qmp, "file-cut")?;
    assert_eq!(
        (&data["data-lost"], &data["vcpu"]),
        (&json!(false), &Value::Null),
        "{data}"
    );
    let message = data["message"].as_str().unwrap_or_default();
    assert!(message.contains("needed by the reset"), "{message}");
    backing.set(CUT_RAM << 20)?;
    qmp.command("cont", Value::Null)?;
    qmp.wait_event("RESET", PATIENCE)?;
    drop(vm);
    Ok(())
}

/// An address that the test alone touches, in a guest of 128 MiB: its initramfs lies above.
const BROKEN: u64 = 104 << 20;

/// Has the host's kernel find that the memory at this offset into the guest's RAM is broken.
fn poison(vm: &Vm, offset: u64) -> Result<()> {
    let mapping = backing::only_mapping(vm)?;
    let path = PathBuf::from(format!("/proc/{}/pagemap", vm.pid()));
    let file = File::open(&path).map_err(Error::file("open", &path))?;
    let mut entry = [0; 8];
    // Eight bytes a page, of which the first 55 bits are the page frame (Documentation/admin-guide/mm/pagemap.rst).
    file.read_exact_at(&mut entry, (mapping.start + offset) / 4096 * 8)
        .map_err(Error::file("read", &path))?;
    let frame = u64::from_ne_bytes(entry) & ((1 << 55) - 1);
    assert_ne!(frame, 0, "the page is not there");
    put(
        Path::new("/sys/devices/system/memory/hard_offline_page"),
        &format!("{:#x}", frame * 4096),
    )
}

/// Waits for QEMU's event for a page that the guest has touched, or nobody yet.
fn failure(qmp: &mut Qmp, action: &str, address: u64) -> Result<Value> {
    let event = qmp.wait_event("MEMORY_FAILURE", PATIENCE)?;
    let data = &event["data"];
    assert_eq!(
        (&data["recipient"], &data["action"]),
        (&json!("guest"), &json!(action)),
        "{event}"
    );
    assert_eq!(data["flags"]["action-required"], action != "ignore", "{event}");
    let page = data["x-ballast"]["address"].as_u64().map(|found| found & !0xfff);
    assert_eq!(
        (page, &data["x-ballast"]["backend"]),
        (Some(address), &json!("mem0")),
        "{event}"
    );
    Ok(data.clone())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn broken_memory_is_told_and_a_guest_that_cannot_take_it_is_reset() -> Result<()> {
    let backing = Backing::new(128)?;
    // Pages that were paid for stay over a reset, but for broken ones.
    let mut vm = backing.launch(",prealloc=on").reboots().qmp().start()?;
    let mut qmp = vm.qmp()?;
    let mut agent = vm.boot()?;
    poke(&mut agent, BROKEN, 1)?;
    poison(&vm, BROKEN)?;
    failure(&mut qmp, "ignore", BROKEN)?;
    assert_eq!(agent.exec("echo alive")?.trim(), "alive");
    // The tiny kernel has no machine checks.
    agent.console.send(&format!("1 exec devmem {BROKEN:#x} 32"))?;
    failure(&mut qmp, "reset", BROKEN)?;
    let event = qmp.wait_event("RESET", PATIENCE)?;
    assert_eq!(event["data"], json!({ "guest": true, "reason": "guest-reset" }));
    let mut agent = Agent::wait(agent.console, BOOT).map_err(|error| vm.explain(error))?;
    poke(&mut agent, BROKEN, 2)?;
    assert_eq!(peek(&mut agent, BROKEN)?, "0x00000002");
    qmp.command("quit", Value::Null)?;
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(0), "{}", vm.errors.text());
    let said = vm.errors.text();
    assert!(said.contains("is broken") && said.contains("is reset"), "{said}");
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_machine_check_costs_only_the_program_that_touched_broken_memory() -> Result<()> {
    let object = format!("-object memory-backend-ram,id=mem0,size={CUT_RAM}M");
    let launch = Launch::stock().append("mem=320M").line(&object);
    let mut vm = launch
        .line(&format!("-m {CUT_RAM} -machine memory-backend=mem0"))
        .qmp()
        .start()?;
    let mut qmp = vm.qmp()?;
    let mut agent = vm.boot()?;
    poke(&mut agent, TOUCHED, 0x1234_5678)?;
    poke(&mut agent, UNTOUCHED, 1)?;
    poison(&vm, UNTOUCHED - HOLE)?;
    failure(&mut qmp, "ignore", UNTOUCHED)?;
    // The guest's shell tells a SIGBUS as 128 + 7.
    let touch = format!("devmem {UNTOUCHED:#x} 32; echo $?");
    let output = agent.exec(&touch)?;
    assert!(output.trim_end().ends_with("135"), "{output}");
    let data = failure(&mut qmp, "inject", UNTOUCHED)?;
    assert_eq!(data["flags"]["recursive"], false, "{data}");
    agent.exec("dmesg | grep -E 'Machine check events logged|Hardware Error'")?;
    // Once more, and nothing else is the worse for it.
    let output = agent.exec(&touch)?;
    assert!(output.trim_end().ends_with("135"), "{output}");
    assert_eq!(peek(&mut agent, TOUCHED)?, "0x12345678");
    qmp.command("quit", Value::Null)?;
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(0), "{}", vm.errors.text());
    let said = vm.errors.text();
    assert_eq!(said.matches("got a machine check").count(), 1, "{said}");
    Ok(())
}
