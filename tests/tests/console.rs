//! The console of virtio, as a stock kernel's driver uses it, and a serial port to which nobody listens.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::thread;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::io::ioctl_fionread;
use rustix::pipe::fcntl_setpipe_size;
use serde_json::Value;
use tempfile::TempDir;
use tests::agent::READY;
use tests::harness::agent::{Agent, BOOT};
use tests::harness::console::Transcript;
use tests::harness::vm::{Launch, Vm, eventually};
use tests::harness::{Error, Result};

/// How many times as fast as the serial port the console has to be.
const FASTER: f64 = 5.0;
/// What is written to each.
const BYTES: usize = 1 << 20;
const PARTS: usize = 32;
/// With its end 64 bytes.
const LINE: &str = "abcdefghijklmnopqrstuvwxyz-0123456789-ABCDEFGHIJKLMNOPQRSTUVWXY";

/// The agent talks over the console itself, so everything here went through it, in both directions.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn the_console_carries_much_and_loses_nothing() -> Result<()> {
    let mut rig = Rig::start()?;
    let devices = rig.agent.exec("lspci -nn")?;
    assert_eq!(devices.matches("[1af4:1043]").count(), 1, "{devices}");

    // More than a page, and more than Ballast keeps for a guest that does not read.
    let typed = "x".repeat(3000);
    for _ in 0..3 {
        assert_eq!(rig.agent.exec(&format!("echo {typed}"))?.trim(), typed);
    }

    let lines = 4096;
    let numbers = format!("seq -w 1 99999 | head -n {lines} | sed s/^/0123456789/");
    let all = rig.agent.exec(&numbers)?;
    let expected: String = (1..=lines).map(|line| format!("0123456789{line:05}\n")).collect();
    assert!(all == expected, "the console lost or changed something");
    Ok(())
}

/// Its vCPU waits within the kernel's first messages, and everything else goes on.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_guest_whose_output_nobody_reads_can_be_stopped_reset_and_ended() -> Result<()> {
    let directory = tempfile::tempdir().map_err(Error::file("create", Path::new("/tmp")))?;
    let path = directory.path().join("serial");
    let made = mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0);
    made.map_err(|errno| Error::file("create", &path)(errno.into()))?;
    let opened = File::options().read(true).write(true).open(&path);
    let output = opened.map_err(Error::file("open", &path))?;
    fcntl_setpipe_size(&output, 4096).map_err(|errno| Error::file("bound", &path)(errno.into()))?;
    // With one byte in its only page it is not ready for the next one (pipe_poll of fs/pipe.c).
    let full = || Ok(ioctl_fionread(&output).is_ok_and(|bytes| bytes > 0));

    let serial = format!("-serial file:{}", path.display());
    let launch = Launch::tiny().append("loglevel=7").line(&serial);
    let mut vm = launch.reboots().qmp().start()?;
    let mut qmp = vm.qmp()?;
    assert!(eventually(BOOT, full)?, "{}", vm.errors.text());
    // The next byte is on its way.
    thread::sleep(Duration::from_millis(200));
    qmp.command("stop", Value::Null)?;
    qmp.command("cont", Value::Null)?;
    thread::sleep(Duration::from_millis(200));
    qmp.command("system_reset", Value::Null)?;
    qmp.wait_event("RESET", BOOT)?;

    // The second guest comes up once somebody reads.
    let reader = output.try_clone().map_err(Error::file("read", &path))?;
    let said = Transcript::of(reader);
    said.wait_for(READY, 0, BOOT).map_err(|error| vm.explain(error))?;
    qmp.command("quit", Value::Null)?;
    assert_eq!(vm.wait(BOOT)?.code(), Some(0), "{}", vm.errors.text());
    Ok(())
}

/// In parts by turns, so that both have the same share of a busy machine.
#[test]
#[ignore = "needs the lab: cargo lab test --long"]
fn long_a_mebibyte_takes_the_console_a_fifth_of_the_time() -> Result<()> {
    let mut rig = Rig::start()?;
    let part = format!("{LINE}\n").repeat(BYTES / PARTS / 64);
    let ports = ["hvc0", "ttyS0"];
    for port in ports {
        let prepare = format!(
            "stty raw -echo -F /dev/{port}; yes {LINE} | head -n {} >/tmp/part",
            part.lines().count()
        );
        rig.agent.exec(&prepare)?;
    }
    let mut seconds = [0.0; 2];
    for _ in 0..PARTS {
        for (port, seconds) in ports.iter().zip(&mut seconds) {
            *seconds += rig.write(port).map_err(|error| rig.explain(error))?;
        }
    }
    // The agent's words stand between the parts of the console.
    let console = rig.agent.console.transcript.text().matches(&part).count();
    let serial = rig.serial()?;
    assert_eq!(console, PARTS, "the console lost or changed something");
    assert!(
        serial.ends_with(&part.repeat(PARTS)),
        "the serial port lost or changed something: {}",
        besides_lines(&serial)
    );

    let [fast, slow] = seconds;
    let ratio = slow / fast;
    println!("{BYTES} bytes: {fast:.2} s, {slow:.2} s by the serial port, {ratio:.1} times as fast");
    assert!(
        ratio >= FASTER,
        "{slow} s by the serial port, {fast} s by the console: {ratio:.1}"
    );
    Ok(())
}

/// A guest with a console beside its serial port.
struct Rig {
    vm: Vm,
    agent: Agent<ChildStdin>,
    /// What came out of the serial port.
    serial: PathBuf,
    _directory: TempDir,
}

impl Rig {
    fn start() -> Result<Rig> {
        let directory = tempfile::tempdir().map_err(Error::file("create", Path::new("/tmp")))?;
        let serial = directory.path().join("serial");
        let mut vm = Launch::stock()
            .append("agent=/dev/hvc0")
            .line("-m 256 -smp 2 -chardev stdio,id=c -device virtio-serial-pci -device virtconsole,chardev=c")
            .args(["-serial", &format!("file:{}", serial.display())])
            .start()?;
        let agent = vm.boot()?;
        Ok(Rig {
            vm,
            agent,
            serial,
            _directory: directory,
        })
    }

    fn serial(&self) -> Result<String> {
        fs::read_to_string(&self.serial).map_err(Error::file("read", &self.serial))
    }

    fn explain(&self, error: Error) -> Error {
        let said = self
            .serial()
            .map_or_else(|error| error.to_string(), |said| besides_lines(&said));
        println!("out of the serial port came:\n{said}");
        self.vm.explain(error)
    }

    /// How long the guest needs to write a part to a port.
    fn write(&mut self, port: &str) -> Result<f64> {
        let clock = "$(cut -d' ' -f1 /proc/uptime)";
        // Nothing else may come over the console in the middle of what is written there.
        let line = format!("a={clock}; dd if=/tmp/part of=/dev/{port} bs=64k 2>/dev/null; echo $a {clock}");
        let answer = self.agent.exec(&line)?;
        let seconds: Vec<f64> = answer
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [start, end] = seconds[..] else {
            return Err(Error::Connection(format!("no times in {answer:?}")));
        };
        Ok(end - start)
    }
}

/// What is no line that was written there: words of the guest's kernel.
fn besides_lines(serial: &str) -> String {
    serial.replace(&format!("{LINE}\n"), "")
}
