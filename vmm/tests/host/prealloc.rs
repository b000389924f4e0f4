//! While memory is filled before the guest runs, clients are served. Runs on any machine with a KVM, a software KVM too: no
//! guest has to run for it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::kernel::kernel;
use crate::running::{PATIENCE, Qmp, Running};

/// So much that nobody is too late: with one thread it takes a second on a fast machine. Base pages, which are there until the
/// test ends it.
const LONG: &str = "-m 3G -object memory-backend-memfd,id=mem0,size=3G,prealloc=on,prealloc-threads=1 \
                    -object memory-backend-ram,id=spare,size=8M,prealloc=on -machine memory-backend=mem0";
const LONG_SIZE: u64 = 3 << 30;
/// A query takes at most so long in nine of ten cases: others use this machine too.
const PROMPT: Duration = Duration::from_millis(50);

fn with_kvm(test: impl FnOnce(&Path)) {
    if File::options().read(true).write(true).open("/dev/kvm").is_err() {
        return println!("NOT CHECKED: no /dev/kvm");
    }
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("vmlinux"), kernel()).unwrap();
    test(directory.path());
}

/// What is told of the guest's memory.
fn report(qmp: &mut Qmp) -> Value {
    qmp.command("x-ballast-query-prealloc")[0].take()
}

fn populated(report: &Value) -> u64 {
    report["populated"].as_u64().unwrap()
}

/// A start whose memory is being filled, and some of it is there.
fn amid(path: &Path, line: &str) -> (Running, Qmp) {
    let running = Running::start(path, line);
    let mut qmp = Qmp::connect(path);
    let start = Instant::now();
    loop {
        let report = report(&mut qmp);
        assert_eq!(
            (&report["state"], &report["mode"]),
            (&json!("running"), &json!("on")),
            "{report}"
        );
        if populated(&report) > 0 {
            return (running, qmp);
        }
        assert!(start.elapsed() < PATIENCE, "{report}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for the end of the start, of which nobody who asks for it is told: the thread that does it is gone. Before its first
/// instruction a thread has the name of the one that made it.
fn until_started(running: &Running, qmp: &mut Qmp) {
    let id = running.0.id().to_string();
    let tasks = format!("/proc/{id}/task");
    let is_starting = || {
        let tasks = fs::read_dir(&tasks).unwrap().flatten();
        let others = tasks.filter(|task| task.file_name() != *id);
        let mut names = others.filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
        names.any(|name| ["start", "ballast"].contains(&name.trim()))
    };
    let start = Instant::now();
    while is_starting() {
        assert!(start.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(5));
    }
    // The main loop has heard of it when it serves a client anew.
    qmp.command("query-status");
    qmp.command("query-status");
}

/// How it ended, and what it said.
fn ended(mut running: Running) -> (Option<i32>, String) {
    let mut said = String::new();
    running
        .0
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    (running.0.wait().unwrap().code(), said)
}

#[test]
fn clients_see_it_are_answered_and_stop_it() {
    with_kvm(|path| {
        let (running, mut qmp) = amid(path, LONG);
        let mut answers: Vec<Duration> = Vec::new();
        let mut asked = |qmp: &mut Qmp, name: &str| {
            let start = Instant::now();
            let answer = qmp.command(name);
            answers.push(start.elapsed());
            answer
        };
        let before = report(&mut qmp);
        for _ in 0..10 {
            assert_eq!(asked(&mut qmp, "query-status")["status"], "prelaunch");
            for name in ["query-cpus-fast", "query-memdev", "x-ballast-query-memory"] {
                asked(&mut qmp, name);
            }
        }
        let now = asked(&mut qmp, "x-ballast-query-prealloc");
        assert!(populated(&now[0]) > populated(&before), "{now}");
        assert!(now[0]["rate"].as_u64() > Some(0), "{now}");
        assert!(now[0]["eta-ms"].as_u64() > Some(0), "{now}");
        answers.sort();
        assert!(answers[answers.len() * 9 / 10] < PROMPT, "{answers:?}");

        qmp.command("x-ballast-cancel-prealloc");
        let told = loop {
            let told = qmp.event("x-ballast-PREALLOC_ENDED");
            if told["id"] == "mem0" {
                break told;
            }
        };
        assert_eq!(told["state"], "cancelled");
        let there = populated(&told);
        assert!(there < LONG_SIZE && there >= populated(&now[0]), "{told}");
        // It goes on with what is there.
        assert_eq!(qmp.command("query-status")["status"], "prelaunch");
        assert_eq!(populated(&report(&mut qmp)), there);
        until_started(&running, &mut qmp);
        qmp.command("quit");
        let (code, said) = ended(running);
        assert_eq!(code, Some(0), "{said}");
    });
}

#[test]
fn quit_ends_it_and_it_was_not_started() {
    for more in ["", " -daemonize"] {
        with_kvm(|path| {
            let (running, mut qmp) = amid(path, &format!("{LONG}{more}"));
            qmp.send("{\"execute\":\"quit\"}\n");
            assert_eq!(qmp.event("SHUTDOWN")["reason"], "host-qmp-quit");
            let (code, said) = ended(running);
            assert_eq!(code, Some(1), "{said}");
            let last = said.lines().last().unwrap_or_default();
            assert_eq!(
                last, "ballast: 'quit' came before the guest was started",
                "{said}"
            );
            assert!(!said.contains("cancelled"), "{said}");
        });
    }
}

#[test]
fn a_signal_ends_it() {
    for signal in [Signal::INT, Signal::TERM] {
        with_kvm(|path| {
            let (running, mut qmp) = amid(path, LONG);
            kill_process(Pid::from_child(&running.0), signal).unwrap();
            assert_eq!(qmp.event("SHUTDOWN")["reason"], "host-signal");
            let (code, said) = ended(running);
            assert_eq!(code, Some(1), "{said}");
            let last = said.lines().last().unwrap_or_default();
            assert!(
                last.starts_with("ballast: the preallocation was cancelled when ")
                    && last.ends_with(" of 3080 MiB were there"),
                "{said}"
            );
        });
    }
}

#[test]
fn objects_that_the_guest_does_not_use_are_told_of_too() {
    with_kvm(|path| {
        let line = "-v -m 64 -machine mem-merge=on -object memory-backend-memfd,id=spare,size=8M,prealloc=on";
        let running = Running::start(path, line);
        let mut qmp = Qmp::connect(path);
        until_started(&running, &mut qmp);
        qmp.command("quit");
        let (code, said) = ended(running);
        assert_eq!(code, Some(0), "{said}");
        let warning = "ballast: warning: mem-merge=on has no effect on backend 'spare'";
        assert_eq!(
            said.lines().filter(|line| line.starts_with(warning)).count(),
            1,
            "{said}"
        );
        for summary in [
            "ballast: backend 'ram': 64 MiB of ",
            "ballast: backend 'spare': 8 MiB of memfd",
        ] {
            assert_eq!(
                said.lines().filter(|line| line.starts_with(summary)).count(),
                1,
                "{said}"
            );
        }
    });
}

#[test]
fn what_is_asked_meanwhile_is_done_at_its_end() {
    with_kvm(|path| {
        let line =
            "-m 512 -object memory-backend-memfd,id=mem0,size=512M,prealloc=on -machine memory-backend=mem0";
        let running = Running::start(path, line);
        let mut qmp = Qmp::connect(path);
        // Whether or not it is over by now.
        for name in ["cont", "stop", "system_reset", "system_powerdown"] {
            qmp.command(name);
        }
        let start = Instant::now();
        while report(&mut qmp)["state"] == "running" {
            assert!(start.elapsed() < PATIENCE);
            thread::sleep(Duration::from_millis(10));
        }
        let done = report(&mut qmp);
        assert_eq!((&done["state"], populated(&done)), (&json!("done"), 512 << 20));
        assert!(
            done["eta-ms"].is_null() && done["rate"].as_u64() > Some(0),
            "{done}"
        );
        let held = qmp.command("x-ballast-query-memory")["backends"][0]["resident"].take();
        assert_eq!(held, 512 << 20);
        assert_eq!(qmp.command("query-status")["running"], false, "stop came last");
        until_started(&running, &mut qmp);
        qmp.command("quit");
        let (code, said) = ended(running);
        assert_eq!(code, Some(0), "{said}");
    });
}
