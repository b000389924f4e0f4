//! A file behind guest memory that somebody cuts.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::agent::{Agent, BOOT};
use tests::harness::vm::Launch;
use tests::harness::{Error, Result};

use super::{PATIENCE, has_said_nothing, join, note_log, peek, poke, starved, tiny};

/// What the guest's kernel knows of its RAM, in MiB, where the test alone touches the rest.
const KNOWN: u32 = 160;
/// RAM of the guest whose file is cut, in MiB: the initramfs lies below the hole, and nothing but what the test touches above it.
pub(super) const CUT_RAM: u64 = 3 * 1024 + 64;
/// The size of the hole: above it, an offset into the file is this much less than the guest's address.
pub(super) const HOLE: u64 = 1 << 30;
/// Places above the hole.
pub(super) const TOUCHED: u64 = (4 << 30) + (8 << 20);
pub(super) const UNTOUCHED: u64 = (4 << 30) + (24 << 20);
/// Between them.
const BETWEEN: u64 = (4 << 30) + (16 << 20);

/// A file for RAM.
pub(super) struct Backing {
    file: File,
    /// MiB.
    size: u64,
    directory: tempfile::TempDir,
}

impl Backing {
    pub(super) fn new(size: u64) -> Result<Backing> {
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
    pub(super) fn launch(&self, more: &str) -> Launch {
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

    // The end does not wait for a worker that waits.
    Agent::wait(agent.console, BOOT).map_err(|error| vm.explain(error))?;
    qmp.command("stop", Value::Null)?;
    backing.set(0)?;
    starved(&mut qmp, "file-cut")?;
    qmp.command("quit", Value::Null)?;
    let status = vm.wait(PATIENCE)?;
    let said = vm.errors.text();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("device 'balloon0' waits for a page"), "{said}");
    Ok(())
}
