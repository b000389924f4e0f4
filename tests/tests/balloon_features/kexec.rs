//! A guest that starts another kernel without a reset of the machine.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::harness::agent::{Agent, BOOT};
use tests::harness::backing::{Backing, HUGE_PAGE};
use tests::harness::hugepages::ALL_2M;
use tests::harness::vm::{COMMAND_LINE, Launch, eventually};
use tests::harness::{Error, Result, balloon, names};
use tests::lab::archive::Archive;

use super::{MEBIBYTE, PATIENCE, query, set};

/// In MiB.
const RAM: u64 = 384;
const LEFT: u64 = 224;
/// What the second kernel's programs keep all the while, and what they write when the balloon is empty.
const KEPT: usize = 32;
const PATTERN: usize = 128;

/// The first kernel goes in the middle of an inflate; it resets no device, and neither does Ballast. The second finds the
/// target, may use all memory all the same, and its balloon works.
#[test]
#[ignore = "needs the lab: cargo lab test --long"]
fn long_a_kernel_started_by_another_has_all_its_memory() -> Result<()> {
    let _pool = ALL_2M.set(RAM * MEBIBYTE / HUGE_PAGE)?;
    let directory = tempfile::tempdir().map_err(Error::file("create", Path::new("/tmp")))?;
    let initrd = directory.path().join("initrd");
    with_a_second_kernel(&initrd)?;
    let launch = Launch::new()
        .args(["-kernel", names::STOCK, "-append", COMMAND_LINE, "-initrd"])
        .arg(&initrd)
        .args(balloon::DEVICE)
        .qmp();
    let mut vm = Backing::HugeMemfd.launch(launch, RAM, "").start()?;
    let mut agent = vm.boot()?;
    let mut qmp = vm.qmp()?;
    // Ballast has the driver's buffer for statistics, and a reason to return it once a second.
    set(&mut qmp, "guest-stats-polling-interval", &json!(1))?;
    agent.exec(&format!(
        "kexec -s -l /next/kernel --initrd=/next/initrd --command-line='{COMMAND_LINE} second'"
    ))?;
    balloon::ask(&mut qmp, LEFT * MEBIBYTE)?;
    assert!(
        eventually(PATIENCE, || Ok(query(&mut qmp)?["inflated"].as_u64() > Some(0)))?,
        "the balloon does not move"
    );
    agent.exec("setsid kexec -e > /dev/null 2>&1 < /dev/null &")?;

    let mut agent = Agent::wait(agent.console, BOOT)?;
    let line = agent.exec("cat /proc/cmdline")?;
    assert!(line.trim_end().ends_with("second"), "{line}");
    agent.fill("kept", 1, KEPT)?;
    balloon::wait(&mut qmp, LEFT * MEBIBYTE, PATIENCE)?;
    balloon::ask(&mut qmp, RAM * MEBIBYTE)?;
    balloon::wait(&mut qmp, RAM * MEBIBYTE, PATIENCE)?;
    agent.fill("more", 2, PATTERN)?;
    agent.verify("more")?;
    agent.free("more")?;
    balloon::ask(&mut qmp, LEFT * MEBIBYTE)?;
    balloon::wait(&mut qmp, LEFT * MEBIBYTE, PATIENCE)?;
    agent.verify("kept")?;
    let faults = qmp.command("x-ballast-query-faults", Value::Null)?;
    let driver = [
        "virtio-chain",
        "virtio-queue",
        "balloon-outside",
        "balloon-length",
    ];
    for fault in faults.as_array().into_iter().flatten() {
        let known = driver.iter().any(|kind| fault["kind"] == *kind);
        assert!(!known || fault["count"] == 0, "{faults}");
    }
    let log =
        agent.exec("dmesg >/tmp/log; grep -c . /tmp/log; grep -E 'BUG|Bad page|Oops' /tmp/log; true")?;
    assert!(log.trim().parse().is_ok_and(|lines: u32| lines > 50), "{log}");
    Ok(())
}

/// The guest's initramfs with a kernel and an initramfs in it: the kernel unpacks one archive after the other.
fn with_a_second_kernel(initrd: &Path) -> Result<()> {
    let more = initrd.with_extension("next");
    let archive = || {
        let mut archive = Archive::create(&more)?;
        archive.copy(Path::new(names::STOCK), "/next/kernel")?;
        archive.copy(Path::new(names::GUEST), "/next/initrd")?;
        archive.finish()
    };
    archive().unwrap_or_else(|error| panic!("{error}"));
    let read = |path: &Path| fs::read(path).map_err(Error::file("read", path));
    let mut bytes = read(Path::new(names::GUEST))?;
    // Headers are aligned to four bytes.
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(read(&more)?);
    fs::write(initrd, bytes).map_err(Error::file("write", initrd))
}
