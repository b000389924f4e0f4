//! A hundred resets in a row leave nothing behind. Runs on any machine with a KVM, a software KVM too: no guest has to run for it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::kernel::kernel;

const PATIENCE: Duration = Duration::from_secs(30);

/// Ends with the test, whatever becomes of that.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Descriptors, threads, and KiB of anonymous memory.
fn footprint(pid: u32) -> [usize; 3] {
    let process = Path::new("/proc").join(pid.to_string());
    let count = |name: &str| fs::read_dir(process.join(name)).map_or(0, Iterator::count);
    let status = fs::read_to_string(process.join("status")).unwrap_or_default();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes = anonymous.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
    [count("fd"), count("task"), kibibytes.unwrap_or(0)]
}

#[test]
fn a_hundred_resets_leave_nothing_behind() {
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return println!("NOT CHECKED: no /dev/kvm");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("vmlinux"), kernel()).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_ballast"))
        .current_dir(path)
        .args("run -S -m 64 -smp 4 -serial none -kernel vmlinux -qmp unix:qmp,server=on,wait=off".split(' '))
        .args("-device virtio-balloon-pci -device virtio-rng-pci -device pvpanic-pci".split(' '))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut running = Running(child);
    let start = Instant::now();
    let mut stream = loop {
        match UnixStream::connect(path.join("qmp")) {
            Ok(stream) => break stream,
            Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
        }
        thread::sleep(Duration::from_millis(10));
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    next();
    stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n").unwrap();
    next();
    let pid = running.0.id();
    let mut before = [0; 3];
    for round in 0..100 {
        stream.write_all(b"{\"execute\":\"system_reset\"}\n").unwrap();
        assert_eq!(next(), json!({ "return": {} }));
        let event = next();
        assert_eq!(
            (&event["event"], &event["data"]),
            (
                &json!("RESET"),
                &json!({ "guest": false, "reason": "host-qmp-system-reset" })
            )
        );
        // What is made once is there after the first ones.
        if round == 4 {
            before = footprint(pid);
        }
    }
    // The last of its threads may just be ending.
    let after = || footprint(pid);
    while after()[1] > before[1] {
        assert!(start.elapsed() < PATIENCE, "{before:?}, then {:?}", after());
        thread::sleep(Duration::from_millis(10));
    }
    let after = after();
    assert!(
        before[1] > 4 && after[..2] == before[..2],
        "{before:?}, then {after:?}"
    );
    assert!(after[2] < before[2] + 256, "{before:?}, then {after:?}");
    // An end in the middle of one.
    stream
        .write_all(b"{\"execute\":\"system_reset\"}{\"execute\":\"quit\"}\n")
        .unwrap();
    assert!(running.0.wait().unwrap().success());
}
