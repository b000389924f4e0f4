//! Each kind of memory boots a guest, and what Ballast says about it is what the host's kernel says.

use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::Result;
use tests::harness::backing::{self, Backing};
use tests::harness::group::Group;
use tests::harness::hugepages::ALL_2M;
use tests::harness::knob::Knob;
use tests::harness::maps::{self, Mapping};
use tests::harness::qmp::Qmp;
use tests::harness::swap::Swap;
use tests::harness::vm::{Launch, Vm, eventually};

/// The guest's RAM in MiB.
const RAM: u64 = 64;
const RAM_BYTES: u64 = RAM << 20;
/// How long Ballast may take to end.
const END: Duration = Duration::from_secs(10);
const KSM_RUN: &str = "/sys/kernel/mm/ksm/run";

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn anonymous_memory_is_as_reported() -> Result<()> {
    boots_as_reported(Backing::Anonymous)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_memfd_is_as_reported() -> Result<()> {
    boots_as_reported(Backing::Memfd)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_memfd_of_huge_pages_is_as_reported() -> Result<()> {
    boots_as_reported(Backing::HugeMemfd)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_directory_of_huge_pages_is_as_reported() -> Result<()> {
    boots_as_reported(Backing::HugeDirectory)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_directory_in_memory_is_as_reported() -> Result<()> {
    boots_as_reported(Backing::Tmpfs)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn merging_is_asked_of_the_kernel() -> Result<()> {
    let _run = Knob::set(KSM_RUN.as_ref(), "1")?;
    for machine in [false, true] {
        let launch = Launch::tiny().arg("-S").qmp();
        let vm = if machine {
            launch.args(["-m", "64", "-machine", "mem-merge=on"]).start()?
        } else {
            Backing::Anonymous.launch(launch, RAM, ",merge=on").start()?
        };
        let memory = query_memory(&mut vm.qmp()?)?;
        assert!(
            backing::only_mapping(&vm)?.has_flag("mg"),
            "mem-merge={machine}: no mg"
        );
        assert_eq!(memory["asked"]["merge"], true);
        assert_eq!(memory["effective"]["merge"], true);
        assert_eq!(memory["warnings"], json!([]));
    }
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn merging_without_ksmd_is_a_warning() -> Result<()> {
    let _run = Knob::set(KSM_RUN.as_ref(), "0")?;
    let vm = Backing::Anonymous
        .launch(Launch::tiny().arg("-S").qmp(), RAM, ",merge=on")
        .start()?;
    let memory = query_memory(&mut vm.qmp()?)?;
    assert_eq!(memory["effective"]["merge"], true);
    warns(&vm, &memory, "ksmd is not running");
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn merging_by_machine_of_memory_that_cannot_merge_is_a_warning() -> Result<()> {
    let _pool = ALL_2M.set(RAM_BYTES / backing::HUGE_PAGE)?;
    for kind in [Backing::Memfd, Backing::HugeMemfd, Backing::Tmpfs] {
        let launch = Launch::tiny().args(["-S", "-machine", "mem-merge=on"]).qmp();
        let mut vm = kind.launch(launch, RAM, "").start()?;
        let mut qmp = vm.qmp()?;
        let memory = query_memory(&mut qmp)?;
        assert!(!backing::only_mapping(&vm)?.has_flag("mg"), "{kind:?} has mg");
        assert_eq!(memory["effective"]["merge"], false, "{kind:?}");
        warns(&vm, &memory, "mem-merge=on has no effect on backend 'mem0'");
        qmp.command("quit", Value::Null)?;
        assert!(vm.wait(END)?.success(), "{kind:?}: {}", vm.errors.text());
    }
    Ok(())
}

/// What the host swaps out is no longer said to be in RAM.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn swapped_memory_is_as_reported() -> Result<()> {
    let _swap = Swap::on(4 * RAM_BYTES)?;
    for kind in [Backing::Anonymous, Backing::Memfd] {
        let group = Group::new("memory")?;
        let launch = Launch::tiny().arg("-S").qmp().under(&group.enter());
        let mut vm = kind.launch(launch, RAM, ",prealloc=on").start()?;
        let mut qmp = vm.qmp()?;
        assert_eq!(query_memory(&mut qmp)?["swapped"], 0, "{kind:?}");
        let swapped = || Ok(backing::only_mapping(&vm)?.field("Swap"));
        let enough = eventually(END, || {
            // EAGAIN: less than that was taken, which is looked at here.
            group.set("memory.reclaim", &(RAM_BYTES / 4).to_string()).ok();
            Ok(swapped()? >= RAM_BYTES / 4)
        })?;
        assert!(enough, "{kind:?}: {} bytes were swapped out", swapped()?);
        let mut report = Value::Null;
        let agree = eventually(END, || {
            report = query_memory(&mut qmp)?;
            Ok(report["swapped"] == swapped()?)
        })?;
        assert!(agree, "{kind:?}: {} bytes were swapped out: {report}", swapped()?);
        assert_eq!(report["resident"], RAM_BYTES - swapped()?, "{kind:?}: {report}");
        vm.kill()?;
        drop(vm);
        drop(group);
    }
    Ok(())
}

/// What is swapped out while the rest is filled was there all the same.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn memory_is_filled_where_some_of_it_is_swapped_out() -> Result<()> {
    let _swap = Swap::on(4 * RAM_BYTES)?;
    for kind in [Backing::Anonymous, Backing::Memfd] {
        let group = Group::new("memory")?;
        group.limit("memory.max", Some(RAM_BYTES * 3 / 4))?;
        let launch = Launch::tiny().arg("-S").qmp().under(&group.enter());
        let mut vm = kind.launch(launch, RAM, ",prealloc=on").start()?;
        let memory = query_memory(&mut vm.qmp()?)?;
        assert_eq!(memory["effective"]["prealloc"], true, "{memory}");
        let swapped = memory["swapped"].as_u64().unwrap_or(0);
        assert!(swapped >= RAM_BYTES / 4, "{kind:?}: {memory}");
        vm.kill()?;
        drop(vm);
        drop(group);
    }
    Ok(())
}

fn boots_as_reported(kind: Backing) -> Result<()> {
    let pages = if kind.is_huge() {
        RAM_BYTES / backing::HUGE_PAGE
    } else {
        0
    };
    let _pool = ALL_2M.set(pages)?;
    for prealloc in [false, true] {
        let properties = if prealloc { ",prealloc=on" } else { "" };
        let mut vm = kind
            .launch(Launch::tiny().arg("-v").qmp(), RAM, properties)
            .start()?;
        let mut agent = vm.boot()?;
        let total = agent.memory()?.total;
        assert!(
            total > RAM_BYTES / 2 && total < RAM_BYTES,
            "the guest has {total} bytes"
        );

        // From here on nothing changes.
        let mut qmp = vm.qmp()?;
        qmp.command("stop", Value::Null)?;
        let (memory, device) = (query_memory(&mut qmp)?, query_memdev(&mut qmp)?);
        let mapping = backing::only_mapping(&vm)?;
        let effective = effective(kind, prealloc, &mapping, &policy(&vm, &mapping)?);
        assert_eq!(memory["effective"], effective, "{kind:?}, x-ballast-query-memory");
        assert_eq!(device["x-ballast-effective"], effective, "{kind:?}, query-memdev");
        check_asked(kind, prealloc, &memory, &device);
        check_amounts(kind, prealloc, &vm, &memory)?;
        check_line(&vm.errors.text(), kind, &effective);

        qmp.command("cont", Value::Null)?;
        agent.power_off()?;
        assert!(vm.wait(END)?.success(), "{kind:?}: {}", vm.errors.text());
    }
    Ok(())
}

/// What took effect, from the outside: smaps and the policy in numa_maps.
fn effective(kind: Backing, prealloc: bool, mapping: &Mapping, policy: &str) -> Value {
    let share = mapping.has_flag("sh");
    assert_eq!(share, kind != Backing::Anonymous, "{kind:?}: {mapping:?}");
    assert_eq!(mapping.size(), RAM_BYTES);
    assert_eq!(mapping.field("KernelPageSize"), kind.page(), "{kind:?}");
    let reserve = match kind {
        Backing::Anonymous => mapping.has_flag("ac"),
        Backing::HugeMemfd | Backing::HugeDirectory => !mapping.has_flag("nr"),
        // Shared memory is sure once it is there.
        Backing::Memfd | Backing::Tmpfs => prealloc,
    };
    json!({
        "kind": kind.kind(),
        "page-size": mapping.field("KernelPageSize"),
        "share": share,
        "reserve": reserve,
        "prealloc": prealloc,
        "merge": mapping.has_flag("mg"),
        "thp": mapping.field("THPeligible") != 0,
        "lock": kind.is_huge(),
        "dump": !mapping.has_flag("dd"),
        "policy": policy,
    })
}

/// What was asked, in QEMU's words, with the defaults filled in.
fn check_asked(kind: Backing, prealloc: bool, memory: &Value, device: &Value) {
    let asked = json!({
        "share": null, "reserve": null, "prealloc": prealloc, "merge": false, "dump": true, "thp": null,
        "lock": "off", "policy": "default",
    });
    assert_eq!(memory["asked"], asked, "{kind:?}");
    let share = matches!(kind, Backing::Memfd | Backing::HugeMemfd);
    for (name, value) in [
        ("id", json!(backing::ID)),
        ("size", json!(RAM_BYTES)),
        ("merge", json!(false)),
        ("dump", json!(true)),
        ("prealloc", json!(prealloc)),
        ("share", json!(share)),
        ("reserve", json!(prealloc || kind.is_huge())),
        ("host-nodes", json!([])),
        ("policy", json!("default")),
    ] {
        assert_eq!(device[name], value, "{kind:?}: {name}");
    }
}

/// How much the host holds, on which node, and what is left in the pool.
fn check_amounts(kind: Backing, prealloc: bool, vm: &Vm, memory: &Value) -> Result<()> {
    let held = kind.held(vm)?;
    assert_eq!(memory["resident"], held, "{kind:?}");
    if prealloc {
        assert_eq!(held, RAM_BYTES, "{kind:?}");
    } else {
        assert!(held > 0 && held < RAM_BYTES, "{kind:?} holds {held}");
    }
    assert_eq!(
        backing::nodes_said(memory, kind.page()),
        backing::nodes(vm)?,
        "{kind:?}"
    );

    let pages = ALL_2M.pages()?;
    let reserved = pages.reserved.unwrap_or(0);
    let pool = if kind.is_huge() {
        // Every page is in use or promised to this guest, so none is free.
        assert_eq!(pages.free, reserved);
        json!({ "page-size": backing::HUGE_PAGE, "total": pages.total, "free": 0, "reserved": reserved })
    } else {
        Value::Null
    };
    assert_eq!(memory["pool"], pool, "{kind:?}");
    Ok(())
}

/// The line of `-v`.
fn check_line(errors: &str, kind: Backing, effective: &Value) {
    let page = if kind.is_huge() { "2 MiB" } else { "4 KiB" };
    let start = format!(
        "ballast: backend 'mem0': {RAM} MiB of {}, pages of {page}: ",
        kind.kind()
    );
    let line = errors.lines().find_map(|line| line.strip_prefix(&start));
    let line = line.unwrap_or_else(|| panic!("no line begins with {start:?} in:\n{errors}"));
    let properties: Vec<&str> = line.split(", ").collect();
    for name in ["share", "reserve", "prealloc", "merge", "thp", "dump"] {
        let word = if effective[name] == true { "on" } else { "off" };
        let property = format!("{name}={word}");
        assert!(
            properties.contains(&property.as_str()),
            "no {property} in {line:?}"
        );
    }
    assert!(
        line.ends_with(&format!(
            "policy={}",
            effective["policy"].as_str().unwrap_or_default()
        )),
        "{line:?}"
    );
}

/// The policy of a mapping as numa_maps has it.
fn policy(vm: &Vm, mapping: &Mapping) -> Result<String> {
    let line = maps::numa_line(vm.pid(), mapping)?;
    Ok(line
        .split_whitespace()
        .nth(1)
        .unwrap_or_default()
        .replace(':', " "))
}

/// Says the same on standard error and over QMP.
fn warns(vm: &Vm, memory: &Value, text: &str) {
    let errors = vm.errors.text();
    let said = errors
        .lines()
        .any(|line| line.starts_with("ballast: warning: ") && line.contains(text));
    assert!(said, "no warning with {text:?} in:\n{errors}");
    let warning = memory["warnings"][0].as_str().unwrap_or_default();
    assert!(warning.contains(text), "{:?}", memory["warnings"]);
}

fn query_memory(qmp: &mut Qmp) -> Result<Value> {
    let mut memory = qmp.command("x-ballast-query-memory", Value::Null)?;
    Ok(memory["backends"][0].take())
}

fn query_memdev(qmp: &mut Qmp) -> Result<Value> {
    let mut devices = qmp.command("query-memdev", Value::Null)?;
    Ok(devices[0].take())
}
