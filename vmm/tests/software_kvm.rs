//! On a host whose KVM cannot run a kernel, `ballast run` ends with one line that says so and why.
//!
//! Runs on any machine: what is expected depends on what the machine has. Where its KVM can be used there is nothing to
//! see here; the lab's tests show the same with a host that hides its processor's flags.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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

/// An ELF kernel of one page that only halts: header, one loadable segment at 16 MiB, code.
fn kernel() -> Vec<u8> {
    const START: u64 = 16 << 20;
    let mut image = vec![0; 0x1000];
    image[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // Executable, x86-64, version 1; entry; program headers; sizes of both headers, and one of the second kind.
    for (at, value) in [
        (0x10, 2_u16),
        (0x12, 62),
        (0x14, 1),
        (0x34, 64),
        (0x36, 56),
        (0x38, 1),
    ] {
        put(at, &value.to_le_bytes());
    }
    for (at, value) in [(0x18, START), (0x20, 64)] {
        put(at, &value.to_le_bytes());
    }
    // Loadable, readable and executable; offset, two addresses, sizes in file and memory, alignment.
    put(0x40, &1_u32.to_le_bytes());
    put(0x44, &5_u32.to_le_bytes());
    for (at, value) in [
        (0x48, 0x1000),
        (0x50, START),
        (0x58, START),
        (0x60, 0x1000),
        (0x68, 0x1000),
        (0x70, 0x1000),
    ] {
        put(at, &u64::to_le_bytes(value));
    }
    image.resize(0x2000, 0xf4);
    image
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
