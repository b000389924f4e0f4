//! A guest that does nothing but trouble its devices holds up nobody.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tests::harness::agent::Agent;
use tests::harness::qmp::Qmp;
use tests::harness::{Error, Result, Vm, balloon};

use super::{MEBIBYTE, PATIENCE, get};

/// The balloon's configuration space in the guest.
const CONFIG: &str = "/sys/bus/pci/devices/0000:00:01.0/config";
/// Its first doorbell in its BAR.
const DOORBELL: u32 = 0x3000;
/// How long each flood lasts.
const FLOOD: Duration = Duration::from_secs(2);
/// Within which 99 of 100 answers have to come.
const PROMPT: Duration = Duration::from_millis(50);
/// How many times that an emulated processor may take: it runs several times slower.
const EMULATED: u32 = 2;

/// Asks for this and that while the guest rings a doorbell without end, and while the balloon goes up and down.
pub(super) fn control_answers<W: Write>(vm: &mut Vm, qmp: &mut Qmp, agent: &mut Agent<W>) -> Result<()> {
    let data = window(agent)?;
    let mut other = vm.qmp()?;
    let flood = agent.ring(CONFIG, data, FLOOD)?;
    let pid = vm.pid();
    let times = ask_for(&mut other, pid, |_, _| Ok(()))?;
    report("rings", &times);
    let count = agent.rung(flood)?;
    println!("{count} rings in {FLOOD:?}");
    assert!(count > 100, "only {count} rings");

    let times = ask_for(&mut other, pid, |_, turn| {
        let target = if turn % 2 == 0 { 100 } else { 190 };
        balloon::ask(qmp, target * MEBIBYTE)
    })?;
    report("moves", &times);
    balloon::ask(qmp, 192 * MEBIBYTE)?;
    balloon::wait(qmp, 192 * MEBIBYTE, PATIENCE)?;
    agent.exec("true")?;
    let log = vm.errors.text();
    assert!(log.lines().count() < 20, "a flood shows in the log: {log}");
    Ok(())
}

/// Points the window of virtio's configuration access capability (virtio 1.2, §4.1.4.9) at the doorbell; where its data
/// lies in configuration space.
fn window<W: Write>(agent: &mut Agent<W>) -> Result<u64> {
    let text = agent.exec(&format!("hexdump -v -e '1/1 \"%02x\"' -n 256 {CONFIG}"))?;
    let byte = |at: usize| {
        let digits = text.trim().get(2 * at..2 * at + 2);
        let byte = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
        byte.unwrap_or_else(|| panic!("no byte {at} in {text}"))
    };
    // The list of capabilities starts at 0x34; a vendor's has id 9, and of virtio's the window has type 5.
    let next = |at: &usize| Some(byte(at + 1)).filter(|next| *next != 0);
    let capability = std::iter::successors(Some(byte(0x34)), next)
        .take(32)
        .find(|at| byte(*at) == 9 && byte(at + 3) == 5)
        .unwrap_or_else(|| panic!("no window in {text}"));
    // BAR 0, then offset and length of the window in it.
    let words =
        [0, DOORBELL, 2].map(|word: u32| word.to_le_bytes().map(|byte| format!("\\x{byte:02x}")).concat());
    agent.exec(&format!(
        "printf '{}' | dd of={CONFIG} bs=4 seek={} conv=notrunc",
        words.concat(),
        capability / 4 + 1
    ))?;
    Ok(capability as u64 + 16)
}

/// How long answers took, in order of size, less the time for which the two threads at the ends of the socket were ready to
/// run and had no processor: those of the lab host are few, emulated, and the guest's for the most part. What a thread of
/// Ballast waits for otherwise, for a lock or for the guest, counts.
fn ask_for(
    qmp: &mut Qmp,
    pid: u32,
    mut meanwhile: impl FnMut(&mut Qmp, usize) -> Result<()>,
) -> Result<Vec<Duration>> {
    let waited = || {
        Ok::<_, Error>(queued(&format!("/proc/{pid}/schedstat"))? + queued("/proc/thread-self/schedstat")?)
    };
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < FLOOD {
        meanwhile(qmp, times.len())?;
        let (before, start) = (waited()?, Instant::now());
        match times.len() % 4 {
            0 => qmp.command("query-balloon", Value::Null)?,
            1 => super::query(qmp)?,
            2 => get(qmp, "guest-stats")?,
            _ => qmp.command("query-status", Value::Null)?,
        };
        let took = start.elapsed();
        times.push(took.saturating_sub(waited()? - before));
        std::thread::sleep(Duration::from_millis(5));
    }
    times.sort_unstable();
    Ok(times)
}

/// For how long a thread was ready to run and did not: the second figure of the kernel's `sched-stats.rst`. A process's file
/// is that of its main thread.
fn queued(path: &str) -> Result<Duration> {
    let text = fs::read_to_string(path).map_err(Error::file("read", Path::new(path)))?;
    let figure = text
        .split_whitespace()
        .nth(1)
        .and_then(|figure| figure.parse().ok());
    let figure = figure.unwrap_or_else(|| panic!("no time in {path}: {text}"));
    Ok(Duration::from_nanos(figure))
}

fn report(what: &str, times: &[Duration]) {
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{what}: {} answers, median {:?}, 90 % {:?}, 99 % {:?}, last {:?}",
        times.len(),
        at(50),
        at(90),
        at(99),
        at(100)
    );
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let allowed = match cpu.contains("QEMU TCG") {
        true => PROMPT * EMULATED,
        false => PROMPT,
    };
    assert!(at(99) <= allowed, "{what}: {times:?}");
}
