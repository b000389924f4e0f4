//! Memory of the host that is broken (hardware poison).

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::agent::{Agent, BOOT};
use tests::harness::backing;
use tests::harness::qmp::Qmp;
use tests::harness::vm::{Launch, Vm};
use tests::harness::{Error, Result};

use super::cut::{Backing, CUT_RAM, HOLE, TOUCHED, UNTOUCHED};
use super::{PATIENCE, peek, poke};

/// An address that the test alone touches, in a guest of 128 MiB: its initramfs lies above.
const BROKEN: u64 = 104 << 20;

/// An address that nobody but the test has the guest's kernel read: it is kept out of its memory.
const KERNELS: u64 = 304 << 20;

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

/// What all threads of Ballast together have spent on a processor.
fn processor_time(vm: &Vm) -> Result<Duration> {
    let path = PathBuf::from(format!("/proc/{}/stat", vm.pid()));
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    // After the name in parentheses: the state, ten more, and utime and stime in hundredths of a second (proc_pid_stat(5)).
    let (_, rest) = text.rsplit_once(')').unwrap_or_default();
    let ticks: Vec<u64> = rest
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|word| word.parse().ok())
        .collect();
    assert_eq!(ticks.len(), 2, "{text}");
    Ok(Duration::from_millis(10) * u32::try_from(ticks.iter().sum::<u64>()).unwrap_or(u32::MAX))
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

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).map_err(Error::file("write", path))
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
fn a_machine_check_costs_the_program_that_touched_broken_memory_or_the_kernel() -> Result<()> {
    let object = format!("-object memory-backend-ram,id=mem0,size={CUT_RAM}M");
    let launch = Launch::stock()
        .append(&format!("mem=320M memmap=64K${KERNELS:#x}"))
        .line("-device pvpanic-pci -action panic=pause");
    let mut vm = launch
        .line(&format!("-m {CUT_RAM} -machine memory-backend=mem0"))
        .line(&object)
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
    let said = vm.errors.text();
    assert_eq!(said.matches("got a machine check").count(), 1, "{said}");

    // Linux has no way to go on without a page that it reads for itself.
    poke(&mut agent, KERNELS, 1)?;
    poison(&vm, KERNELS)?;
    failure(&mut qmp, "ignore", KERNELS)?;
    let page = KERNELS / 4096;
    let read = format!("9000 exec dd if=/dev/mem of=/dev/null bs=4096 skip={page} count=1");
    agent.console.send(&read)?;
    failure(&mut qmp, "inject", KERNELS)?;
    let panicked = qmp.wait_event("GUEST_PANICKED", PATIENCE)?;
    assert_eq!(panicked["data"]["action"], "pause");
    qmp.wait_event("STOP", PATIENCE)?;
    let status = qmp.command("query-status", Value::Null)?;
    assert_eq!(status["status"], "guest-panicked");
    let before = processor_time(&vm)?;
    thread::sleep(Duration::from_secs(1));
    let spent = processor_time(&vm)? - before;
    assert!(
        spent < Duration::from_millis(250),
        "{spent:?} in a second of rest"
    );
    qmp.command("quit", Value::Null)?;
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(0), "{}", vm.errors.text());
    Ok(())
}
