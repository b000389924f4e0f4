//! README's examples: each line is typed as it stands there, on a machine with what it speaks of.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};
use tests::agent::READY;
use tests::harness::agent::BOOT;
use tests::harness::hugepages::ALL_2M;
use tests::harness::qmp::Qmp;
use tests::harness::vm::{COMMAND_LINE, Launch, Vm, eventually};
use tests::harness::{Error, Result, names};

const README: &str = include_str!("../../README.md");
/// Pages of 2 MiB, half of them on each node: what the largest example asks for, and one that binds 1 GiB to a node.
const POOL: u64 = 1024;
/// Before the name of the file in which an example leaves its guest's serial port, when it does not show it.
const LOG: &str = "-serial file:";
/// A tap as one of them has, in a network of its own, in the directory that is the first word; then Ballast.
const PLACE: &str = "set -e; tunctl -t tap0 >/dev/null; ip link set tap0 up; cd \"$0\"; exec \"$@\"";

/// A guest of the README, and what is said to it then.
#[derive(Debug)]
struct Example {
    line: String,
    /// What serves one of its devices, as a shell starts it, and where.
    daemon: Option<(String, String)>,
    /// As in `qmp-shell`.
    qmp: Vec<String>,
    /// To the monitor.
    monitor: Vec<String>,
}

/// The examples, in their order.
fn examples() -> Vec<Example> {
    let mut examples: Vec<Example> = Vec::new();
    let mut daemon = None;
    let blocks = README.split("```").skip(1).step_by(2);
    for line in blocks.flat_map(|block| {
        block
            .replace("\\\n", " ")
            .lines()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    }) {
        if let Some(served) = line.strip_prefix("qemu-storage-daemon ") {
            let socket = served.split(['=', ',', ' ']).find(|word| word.ends_with(".sock"));
            let socket = socket.unwrap_or_default().to_owned();
            let words = line.trim_end().trim_end_matches('&');
            daemon = Some((format!("exec {words}"), socket));
        } else if line.starts_with("ballast run -") {
            examples.push(Example {
                line,
                daemon: daemon.take(),
                qmp: Vec::new(),
                monitor: Vec::new(),
            });
        } else if let Some(example) = examples.last_mut() {
            let said = |prompt| line.strip_prefix(prompt).map(str::to_owned);
            example.qmp.extend(said("(QEMU) "));
            example.monitor.extend(said("(ballast) "));
        }
    }
    examples
}

/// The words of a line, as a shell parts them.
fn words(line: &str) -> Result<Vec<String>> {
    let shell = Command::new("sh")
        .args(["-c", &format!("printf '%s\\0' {line}")])
        .output();
    let output = shell.map_err(Error::file("run", Path::new("sh")))?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.split_terminator('\0').map(str::to_owned).collect())
}

/// What an example finds on the machine of its reader, with what this one has in place of a device that it lacks.
fn prepare(directory: &Path) -> Result<()> {
    let link = |from: &str, to: &str| {
        let path = directory.join(to);
        std::os::unix::fs::symlink(from, &path).map_err(Error::file("make", &path))
    };
    link(names::STOCK, "vmlinuz")?;
    link(names::GUEST, "initrd.img")?;
    for (format, name) in [("qcow2", "debian.qcow2"), ("raw", "data.img")] {
        let status = Command::new("qemu-img")
            .args(["create", "-q", "-f", format, name, "16M"])
            .current_dir(directory)
            .status();
        let status = status.map_err(Error::file("run", Path::new("qemu-img")))?;
        assert!(status.success(), "qemu-img: {status}");
    }
    Ok(())
}

/// Starts an example; to what stands there comes a QMP socket, and what a guest needs to tell that it is up.
fn start(example: &Example, directory: &Path) -> Result<Vm> {
    let words = words(&example.line.replace("/dev/hwrng", "/dev/urandom"))?;
    let directory = directory.to_string_lossy();
    Launch::new()
        .under(&["unshare", "-n", "sh", "-c", PLACE, &directory])
        .args(&words[2..])
        .args(["-append", COMMAND_LINE, "-initrd", names::GUEST])
        .reboots()
        .qmp()
        .start()
}

/// Says a line of `qmp-shell`: values are JSON, or else words.
fn say(qmp: &mut Qmp, line: &str) -> Result<Value> {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap_or_default();
    let arguments: Map<_, _> = words
        .filter_map(|word| word.split_once('='))
        .map(|(key, value)| {
            let json = serde_json::from_str(value);
            (key.to_owned(), json.unwrap_or_else(|_| value.into()))
        })
        .collect();
    qmp.command(name, arguments.into())
}

/// A daemon that ends with the example.
struct Served(Child);

impl Served {
    fn start((line, socket): &(String, String), directory: &Path) -> Result<Served> {
        let child = Command::new("sh")
            .args(["-c", line])
            .current_dir(directory)
            .spawn()
            .map_err(Error::file("run", Path::new("sh")))?;
        let served = Served(child);
        let there = eventually(Duration::from_secs(20), || Ok(Path::new(socket).exists()))?;
        assert!(there, "{line}: there is no {socket}");
        Ok(served)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs an example until its guest is up, says what follows, and ends it.
fn run(example: &Example, directory: &Path) -> Result<()> {
    let served = example.daemon.as_ref();
    let _served = served
        .map(|daemon| Served::start(daemon, directory))
        .transpose()?;
    let log = example.line.split_once(LOG).map(|(_, rest)| rest);
    let log = log.and_then(|rest| rest.split_whitespace().next());
    let log = log.map(|name| directory.join(name));
    let mut vm = start(example, directory)?;
    let daemon = example.line.contains(" -daemonize ");
    if daemon {
        assert!(vm.wait(BOOT)?.success(), "{}", vm.errors.text());
    }
    if let Some(log) = log {
        let said = || Ok(String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).into_owned());
        if !eventually(BOOT, || said().map(|text| text.contains(READY)))? {
            return Err(Error::TimedOut {
                what: READY.into(),
                patience: BOOT,
                seen: said()? + &vm.errors.text(),
            });
        }
        // The next one says that its own guest is up.
        fs::remove_file(&log).map_err(Error::file("remove", &log))?;
    } else {
        vm.boot()?;
    }
    let mut qmp = vm.qmp()?;
    for line in &example.qmp {
        say(&mut qmp, line)?;
    }
    for line in &example.monitor {
        qmp.command("human-monitor-command", json!({ "command-line": line }))?;
    }
    if daemon {
        let path = Path::new("/run/guest.pid");
        let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| Error::Format {
            path: path.into(),
            what: "process id".into(),
        })?;
        kill_process(pid, Signal::INT).map_err(|errno| Error::file("end", path)(errno.into()))?;
        assert!(
            eventually(Duration::from_secs(20), || Ok(!path.exists()))?,
            "the file is still there"
        );
        return Ok(());
    }
    qmp.command("quit", Value::Null)?;
    let status = vm.wait(BOOT)?;
    assert!(status.success(), "{status}: {}", vm.errors.text());
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn long_every_example_of_the_readme_runs() -> Result<()> {
    let _pool = ALL_2M.set(POOL)?;
    let directory = tempfile::tempdir().map_err(Error::file("create", Path::new("/tmp")))?;
    prepare(directory.path())?;
    let examples = examples();
    assert!(examples.len() > 12, "the README has another shape: {examples:?}");
    let mut failures = Vec::new();
    for example in &examples {
        if let Err(error) = run(example, directory.path()) {
            failures.push(format!("{}: {error}", example.line));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
    Ok(())
}

#[test]
fn a_daemon_belongs_to_the_example_after_it() {
    let examples = examples();
    let served: Vec<_> = examples
        .iter()
        .filter(|example| example.daemon.is_some())
        .collect();
    assert_eq!(served.len(), 1, "{examples:?}");
    assert!(served[0].line.contains("vhost-user-blk-pci"));
    let (line, socket) = served[0].daemon.as_ref().unwrap();
    assert!(
        line.starts_with("exec qemu-storage-daemon --blockdev") && !line.contains('&'),
        "{line}"
    );
    assert_eq!(socket, "/run/disk.sock");
}
