//! Guests that the balloon presses too hard.

use std::process::ChildStdin;
use std::time::Duration;

use serde_json::json;
use tests::harness::agent::Agent;
use tests::harness::qmp::Qmp;
use tests::harness::vm::Launch;
use tests::harness::{Result, Vm, balloon};

use super::{MEBIBYTE, PATIENCE, query};

/// A guest's MiB, and what the balloon leaves of it.
const ROOMY: u64 = 256;
const SQUEEZED: u64 = 112;
/// What no guest can live in.
const IMPOSSIBLE: u64 = 16;
/// Needs more than is left.
const GREEDY: &str = "dd if=/dev/zero of=/dev/null bs=128M count=1";
/// How long it may take until a balloon is called stuck.
const STUCK: Duration = Duration::from_secs(60);

fn squeezed(properties: &str) -> Result<(Vm, Agent<ChildStdin>, Qmp)> {
    let device = format!("{},{properties}", balloon::DEVICE[1]);
    let mut vm = Launch::tiny()
        .args(["-m", &ROOMY.to_string(), balloon::DEVICE[0], &device])
        .qmp()
        .start()?;
    let agent = vm.boot()?;
    let mut qmp = vm.qmp()?;
    balloon::ask(&mut qmp, SQUEEZED * MEBIBYTE)?;
    balloon::wait(&mut qmp, SQUEEZED * MEBIBYTE, PATIENCE)?;
    Ok((vm, agent, qmp))
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_guest_in_need_takes_memory_back() -> Result<()> {
    let (_vm, mut agent, mut qmp) = squeezed("deflate-on-oom=on")?;
    agent.exec(GREEDY)?;
    let actual = balloon::actual(&mut qmp)?;
    assert!(actual > SQUEEZED * MEBIBYTE, "still {actual} bytes");
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn without_leave_a_guest_in_need_stays_in_need_and_what_cannot_be_had_is_told() -> Result<()> {
    let (_vm, mut agent, mut qmp) = squeezed("deflate-on-oom=off")?;
    let (status, output) = agent.try_exec(GREEDY)?;
    assert_ne!(status, 0, "{output}");
    assert_eq!(balloon::actual(&mut qmp)?, SQUEEZED * MEBIBYTE);

    balloon::ask(&mut qmp, IMPOSSIBLE * MEBIBYTE)?;
    let event = qmp.wait_event("x-ballast-BALLOON_STALLED", STUCK)?;
    let data = &event["data"];
    assert_eq!(data["target"], IMPOSSIBLE * MEBIBYTE, "{event}");
    let actual = data["actual"].as_u64();
    assert!(
        actual > Some(IMPOSSIBLE * MEBIBYTE) && actual < Some(SQUEEZED * MEBIBYTE),
        "{event}"
    );
    let report = query(&mut qmp)?;
    assert_eq!(
        (&report["state"], &report["stall"]["reason"]),
        (&json!("stalled"), &data["reason"])
    );
    balloon::ask(&mut qmp, ROOMY * MEBIBYTE)?;
    balloon::wait(&mut qmp, ROOMY * MEBIBYTE, PATIENCE)?;
    let report = query(&mut qmp)?;
    assert_eq!(
        (&report["state"], &report["stall"]),
        (&json!("idle"), &json!(null))
    );
    agent.exec(GREEDY).map(drop)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_guest_in_distress_gets_everything_back() -> Result<()> {
    let (_vm, mut agent, mut qmp) = squeezed("deflate-on-distress=on")?;
    // The kernel shall promise more than there is, and kill somebody when the promise is due.
    agent.exec("echo 1 > /proc/sys/vm/overcommit_memory")?;
    let (status, output) = agent.try_exec(GREEDY)?;
    assert_ne!(status, 0, "{output}");
    let event = qmp.wait_event("x-ballast-BALLOON_DISTRESS", PATIENCE)?;
    let data = &event["data"];
    let signs = data["signs"].as_object().cloned().unwrap_or_default();
    assert!(
        !signs.is_empty() && signs.values().all(|rise| rise.as_u64() > Some(0)),
        "{event}"
    );
    assert_eq!(
        (&data["target"], &data["given-back"]),
        (&json!(SQUEEZED * MEBIBYTE), &json!((ROOMY - SQUEEZED) * MEBIBYTE))
    );
    balloon::wait(&mut qmp, ROOMY * MEBIBYTE, PATIENCE)?;
    agent.exec(GREEDY).map(drop)
}
