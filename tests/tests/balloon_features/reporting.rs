//! Free pages that the guest reports go to the host, without anybody asking.

use std::io::Write;
use std::process::ChildStdin;
use std::time::Duration;

use serde_json::json;
use tests::harness::agent::Agent;
use tests::harness::backing::{Backing, HUGE_PAGE};
use tests::harness::hugepages::ALL_2M;
use tests::harness::qmp::Qmp;
use tests::harness::vm::{Launch, eventually};
use tests::harness::{Result, Vm, balloon};

use super::{MEBIBYTE, PATIENCE, query};

/// In MiB. While Linux reports pages it keeps up to 64 MiB of them from everybody: a smaller guest that takes memory at
/// that moment has none left.
const RAM: u64 = 256;
/// What the guest writes and frees, in MiB.
const PATTERN: usize = 40;
/// What it keeps all the while.
const KEPT: usize = 8;

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn reported_anonymous_memory_goes() -> Result<()> {
    let (vm, mut agent, mut qmp) = boot(Backing::Anonymous, "")?;
    reported_memory_goes(Backing::Anonymous, &vm, &mut agent, &mut qmp, 80)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn reported_pages_of_a_memfd_go_from_a_guest_that_clears_them() -> Result<()> {
    let (vm, mut agent, mut qmp) = boot(Backing::Memfd, "init_on_free=1")?;
    assert_eq!(query(&mut qmp)?["poison-value"], 0);
    reported_memory_goes(Backing::Memfd, &vm, &mut agent, &mut qmp, 80)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn reported_huge_pages_go_and_a_driver_may_come_and_go() -> Result<()> {
    let _pool = ALL_2M.set(RAM * MEBIBYTE / HUGE_PAGE)?;
    let (vm, mut agent, mut qmp) = boot(Backing::HugeMemfd, "")?;
    reported_memory_goes(Backing::HugeMemfd, &vm, &mut agent, &mut qmp, 75)?;
    a_driver_comes_and_goes(&mut agent, &mut qmp)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_guest_that_wants_its_poison_back_keeps_its_pages() -> Result<()> {
    let (vm, mut agent, mut qmp) = boot(Backing::Anonymous, "page_poison=1")?;
    assert_eq!(query(&mut qmp)?["poison-value"], 0xaaaa_aaaa_u32);
    agent.fill("gone", 1, PATTERN)?;
    let before = Backing::Anonymous.held(&vm)?;
    agent.free("gone")?;
    let reported = PATTERN as u64 * MEBIBYTE / 2;
    assert!(
        eventually(PATIENCE, || Ok(
            query(&mut qmp)?["poisoned"].as_u64() >= Some(reported)
        ))?,
        "{}",
        query(&mut qmp)?
    );
    let after = Backing::Anonymous.held(&vm)?;
    assert!(after >= before - 4 * MEBIBYTE, "{before} became {after}");
    agent.fill("again", 2, PATTERN)?;
    agent.verify("again")?;
    // The kernel looks for its poison whenever it takes a page, and complains.
    let log = agent.exec("dmesg >/tmp/log; grep -c . /tmp/log; grep 'pagealloc: ' /tmp/log; true")?;
    assert!(log.trim().parse().is_ok_and(|lines: u32| lines > 50), "{log}");
    Ok(())
}

fn boot(kind: Backing, words: &str) -> Result<(Vm, Agent<ChildStdin>, Qmp)> {
    let launch = Launch::tiny().args(balloon::DEVICE).append(words).qmp();
    let mut vm = kind.launch(launch, RAM, "").start()?;
    let agent = vm.boot()?;
    let qmp = vm.qmp()?;
    Ok((vm, agent, qmp))
}

/// What the guest frees, the host gets, at least so many percent of it, for the guest's kernel keeps some pages at hand and
/// reports whole blocks of 2 MiB only; what it keeps stays as it is.
fn reported_memory_goes<W: Write>(
    kind: Backing,
    vm: &Vm,
    agent: &mut Agent<W>,
    qmp: &mut Qmp,
    percent: u64,
) -> Result<()> {
    agent.fill("kept", 1, KEPT)?;
    agent.fill("gone", 2, PATTERN)?;
    let before = kind.held(vm)?;
    agent.free("gone")?;
    let start = std::time::Instant::now();
    let wanted = PATTERN as u64 * MEBIBYTE * percent / 100;
    // What is being released is gone before it is counted.
    let enough = eventually(PATIENCE, || {
        Ok(kind.held(vm)? + wanted <= before && query(qmp)?["reported"].as_u64() >= Some(wanted))
    })?;
    let report = query(qmp)?;
    let freed = before.saturating_sub(kind.held(vm)?);
    assert!(enough, "{kind:?}: {freed} of {wanted} bytes were freed: {report}");
    println!("{kind:?}: {} MiB went in {:?}", freed / MEBIBYTE, start.elapsed());
    // Nobody asked for it, and the guest has lost nothing.
    assert_eq!(
        (&report["actual"], &report["target"], &report["inflated"]),
        (&json!(RAM * MEBIBYTE), &json!(RAM * MEBIBYTE), &json!(0))
    );
    assert_eq!(report["free-page-reporting"], json!({ "state": "on" }));
    agent.fill("again", 3, PATTERN)?;
    agent.verify("again")?;
    agent.verify("kept")?;
    agent.free("again")
}

/// Inflates, takes the driver away, lets the guest write all it has, and brings the driver back.
fn a_driver_comes_and_goes<W: Write>(agent: &mut Agent<W>, qmp: &mut Qmp) -> Result<()> {
    const SMALL: u64 = 80 * MEBIBYTE;
    let driver = "/sys/bus/virtio/drivers/virtio_balloon";
    let device = agent.exec(&format!("cd {driver}; echo virtio*"))?;
    let device = device.trim();
    balloon::ask(qmp, SMALL)?;
    balloon::wait(qmp, SMALL, PATIENCE)?;
    agent.exec(&format!("echo {device} > {driver}/unbind"))?;
    balloon::wait(qmp, RAM * MEBIBYTE, PATIENCE)?;
    let report = query(qmp)?;
    assert_eq!(
        (&report["state"], &report["target"], &report["partial"]),
        (&json!("no-driver"), &json!(SMALL), &json!(0))
    );
    agent.fill("all", 4, PATTERN)?;
    agent.verify("all")?;
    agent.free("all")?;
    // The target was kept.
    agent.exec(&format!("echo {device} > {driver}/bind"))?;
    balloon::wait(qmp, SMALL, PATIENCE)?;
    agent.verify("kept")?;
    while qmp.wait_event("BALLOON_CHANGE", Duration::from_secs(5))?["data"]["actual"] != SMALL {}
    Ok(())
}
