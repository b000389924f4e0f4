//! `-daemonize` and `-pidfile`: who starts a guest in the background learns whether it started.
//!
//! Runs on any machine with a KVM, a software KVM too: no guest has to run for it.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::kernel::kernel;

const PATIENCE: Duration = Duration::from_secs(20);

fn start(directory: &Path, more: &[&str]) -> Output {
    let kernel = directory.join("vmlinux");
    // All of its output is waited for: a daemon that keeps a stream open would hold this up for ever.
    Command::new(env!("CARGO_BIN_EXE_ballast"))
        .current_dir(directory)
        .args([
            "run",
            "-S",
            "-m",
            "64",
            "-daemonize",
            "-pidfile",
            "pid",
            "-kernel",
        ])
        .arg(kernel)
        .args(["-qmp", "unix:qmp,server=on,wait=off"])
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{error}"))
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_daemon_is_there_when_its_starter_ends() {
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return println!("NOT CHECKED: no /dev/kvm");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("vmlinux"), kernel()).unwrap();

    let failed = start(
        path,
        &[
            "-object",
            "memory-backend-file,id=f,mem-path=/nowhere/at/all,size=64M",
            "-machine",
            "memory-backend=f",
        ],
    );
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert_eq!(failed.status.code(), Some(1), "{said}");
    assert!(said.contains("/nowhere/at/all"), "{said}");
    assert!(!path.join("pid").exists() && !path.join("qmp").exists());

    let started = start(path, &["-mem-prealloc"]);
    let said = String::from_utf8_lossy(&started.stderr).into_owned();
    assert_eq!(started.status.code(), Some(0), "{said}");
    let pid = fs::read_to_string(path.join("pid")).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    let status = fs::read_to_string(process.join("status")).unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kibibytes: Option<u64> = anonymous.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
    assert!(kibibytes >= Some(64 << 10), "not ready: {status}");
    for stream in ["0", "1", "2"] {
        let place = fs::read_link(process.join("fd").join(stream)).unwrap();
        assert_eq!(place, Path::new("/dev/null"));
    }

    let second = start(path, &[]);
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(
        said.contains(&format!("its process {} still runs", pid.trim())),
        "{said}"
    );

    let mut stream = UnixStream::connect(path.join("qmp")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut greeting = String::new();
    BufReader::new(&stream).read_line(&mut greeting).unwrap();
    assert!(greeting.contains("QMP"), "{greeting}");
    stream
        .write_all(b"{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}\n")
        .unwrap();
    let mut rest = Vec::new();
    // The connection ends with the process, by a reset where that is faster.
    let _ = stream.read_to_end(&mut rest);
    until("the daemon does not end", || {
        !path.join("pid").exists() && !path.join("qmp").exists()
    });
    until("the process stays", || !process.join("exe").exists());
}
