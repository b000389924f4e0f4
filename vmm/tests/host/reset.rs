//! A hundred resets in a row leave nothing behind. Runs on any machine with a KVM, a software KVM too: no guest has to run for it.

use std::fs::{self, File};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::kernel::kernel;
use crate::running::{PATIENCE, Qmp, Running};

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
    let line = "-m 64 -smp 4 -device virtio-balloon-pci -device virtio-rng-pci -device pvpanic-pci";
    let mut running = Running::start(path, line);
    let start = Instant::now();
    let mut qmp = Qmp::connect(path);
    let pid = running.0.id();
    let mut before = [0; 3];
    for round in 0..100 {
        assert_eq!(qmp.command("system_reset"), json!({}));
        let expected = json!({ "guest": false, "reason": "host-qmp-system-reset" });
        assert_eq!(qmp.event("RESET"), expected);
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
    qmp.send("{\"execute\":\"system_reset\"}{\"execute\":\"quit\"}\n");
    assert!(running.0.wait().unwrap().success());
}
