//! On a host whose KVM cannot run a kernel, `ballast run` ends with one line that says so and why.
//!
//! Runs on any machine: what is expected depends on what the machine has. Where its KVM can be used there is nothing to
//! see here; the lab's tests show the same with a host that hides its processor's flags.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::kernel::kernel;

/// A start that is refused takes no longer.
const PROMPT: Duration = Duration::from_secs(10);

/// Why this machine's KVM cannot be used, as `ballast` shall say it; nothing where it can be.
fn expected() -> Option<&'static [&'static str]> {
    let device = Path::new("/dev/kvm");
    if !device.exists() {
        return Some(&["no /dev/kvm", "modprobe"]);
    }
    if File::options().read(true).write(true).open(device).is_err() {
        return Some(&["no permission to open /dev/kvm", "group"]);
    }
    let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let usable = flags
        .split_whitespace()
        .any(|flag| flag == "vmx" || flag == "svm");
    (!usable).then_some(&["cannot run a guest kernel", "vmx", "svm", "software KVM"])
}

#[test]
fn a_kvm_that_cannot_run_a_kernel_is_refused_in_one_line() {
    let Some(words) = expected() else {
        println!("the KVM of this machine can be used: nothing to see");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmlinux");
    fs::write(&path, kernel()).unwrap();
    let socket = directory.path().join("qmp");

    let start = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_ballast"))
        .args(["run", "-m", "64", "-serial", "none", "-kernel"])
        .arg(&path)
        .arg("-qmp")
        .arg(format!("unix:{},server=on,wait=off", socket.display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.starts_with("ballast: ") && said.lines().count() == 1,
        "{said}"
    );
    for word in words {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    assert!(output.stdout.is_empty() && !socket.exists());
    assert!(start.elapsed() < PROMPT);
}

#[test]
fn a_guest_that_does_not_run_yet_is_only_warned_of() {
    if !expected().is_some_and(|words| words.contains(&"software KVM")) {
        println!("this machine has no software KVM: nothing to see");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vmlinux");
    fs::write(&path, kernel()).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_ballast"))
        .args([
            "run", "-S", "-m", "64", "-serial", "none", "-monitor", "stdio", "-kernel",
        ])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.as_ref().unwrap();
    input.write_all(b"info status\nquit\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let (said, told) = (
        String::from_utf8(output.stderr).unwrap(),
        String::from_utf8(output.stdout).unwrap(),
    );
    assert!(
        said.starts_with("ballast: warning: ") && said.contains("software KVM"),
        "{said}"
    );
    assert!(told.contains("prelaunch"), "{told}");
    assert_eq!(output.status.code(), Some(0), "{said}");
}
