//! Preallocated RAM is all there before a vCPU runs, or comes beside the guest; other RAM waits for its first use.

use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tests::harness::backing::{ALL, Backing, HUGE_PAGE};
use tests::harness::hugepages::ALL_2M;
use tests::harness::knob::Knob;
use tests::harness::qmp::Qmp;
use tests::harness::vm::{Launch, Vm, eventually};
use tests::harness::{Result, balloon, kvm, names};

/// MiB of RAM that are there, and of RAM beside which the kernel's image is small.
const FILLED: u64 = 256;
const LARGE: u64 = 1024;

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn preallocated_memory_is_there_before_the_first_run() -> Result<()> {
    for kind in ALL {
        let _pool = pool(kind, FILLED)?;
        let vm = paused(kind, FILLED, ",prealloc=on")?;
        assert_eq!(kind.held(&vm)?, FILLED << 20, "{kind:?}");
        if kind.is_huge() {
            assert_eq!(ALL_2M.pages()?.reserved, Some(0), "{kind:?}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn other_memory_waits_for_its_first_use() -> Result<()> {
    for kind in ALL {
        let _pool = pool(kind, LARGE)?;
        let vm = paused(kind, LARGE, "")?;
        let held = kind.held(&vm)?;
        let percent = held * 100 / (LARGE << 20);
        assert_eq!(percent, 0, "{kind:?} holds {held} bytes");
    }
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn every_backend_is_preallocated_by_one_option() -> Result<()> {
    let launch = Launch::new()
        .args(["-kernel", names::TINY_IMAGE, "-S"])
        .args(["-mem-prealloc", "-m", &FILLED.to_string()])
        .qmp();
    let vm = launch.clone().start()?;
    vm.qmp()?;
    assert_eq!(vm.resident()?, FILLED << 20);
    assert_eq!(kvm::exits(vm.pid())?, 0);
    drop(vm);
    // Who says 'cont' amid the filling means the time after it; and the figure that stayed 0 so far counts.
    let mut vm = launch.start()?;
    let mut qmp = vm.early_qmp()?;
    qmp.command("cont", Value::Null)?;
    qmp.wait_event("RESUME", PATIENCE)?;
    assert_eq!(vm.resident()?, FILLED << 20);
    let ran = eventually(Duration::from_secs(20), || Ok(kvm::exits(vm.pid())? > 0));
    assert!(matches!(ran, Ok(true)), "{ran:?}");
    vm.kill()
}

/// A terminal shows how far a start is, and a signal ends it.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_start_shows_how_far_it_is_and_can_be_ended() -> Result<()> {
    let kind = Backing::HugeMemfd;
    let _pool = pool(kind, FILLED)?;
    let launch = Launch::tiny()
        .arg("-S")
        .env("BALLAST_FREEZE_AT", "prealloc-half")
        .terminal();
    let mut vm = kind.launch(launch, FILLED, ",prealloc=on").start()?;
    vm.errors.wait_for("frozen at prealloc-half", 0, PATIENCE)?;
    let shown = vm.errors.text();
    assert!(
        shown.contains("mem0 ") && shown.contains("/256.00 MiB "),
        "{shown:?}"
    );
    let pid = Pid::from_raw(i32::try_from(vm.pid()).unwrap_or(0));
    let send = |signal| pid.map(|pid| kill_process(pid, signal));
    assert_eq!(send(Signal::INT), Some(Ok(())));
    // It may not have stopped itself yet.
    let gone = eventually(PATIENCE, || {
        send(Signal::CONT);
        Ok(vm
            .errors
            .text()
            .contains("ballast: the preallocation was cancelled when "))
    })?;
    assert!(gone, "{}", vm.errors.text());
    assert_eq!(vm.wait(PATIENCE)?.code(), Some(1));
    assert!(
        vm.errors.text().contains(" of 256 MiB were there"),
        "{}",
        vm.errors.text()
    );
    assert_eq!(ALL_2M.pages()?.free, (FILLED << 20) / HUGE_PAGE);
    Ok(())
}

/// While several GiB are filled before the guest runs, a manager is answered, sees how far it is, and may have the guest start
/// with what is there.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_manager_sees_the_filling_and_has_the_guest_start_without_the_rest() -> Result<()> {
    const SIZE: u64 = 4096;
    let properties = ",prealloc=on,prealloc-threads=1,host-nodes=0-1,policy=interleave,strict=on";
    let launch = Launch::tiny().qmp();
    let mut vm = Backing::Memfd.launch(launch, SIZE, properties).start()?;
    let mut qmp = vm.early_qmp()?;
    let mut answers = Vec::new();
    let mut asked = |name: &str| -> Result<Value> {
        let start = Instant::now();
        let answer = qmp.command(name, Value::Null);
        answers.push(start.elapsed());
        answer
    };
    let mut populated = vec![0];
    while populated.len() < 10 {
        assert_eq!(asked("query-status")?["status"], "prelaunch");
        let told = asked("x-ballast-query-prealloc")?[0].take();
        assert_eq!(
            (&told["mode"], &told["state"]),
            (&json!("on"), &json!("running")),
            "{told}"
        );
        let now = told["populated"].as_u64().unwrap_or(0);
        if now > *populated.last().unwrap_or(&0) {
            assert!(
                told["rate"].as_u64() > Some(0) && told["eta-ms"].is_u64(),
                "{told}"
            );
            populated.push(now);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let resident = asked("x-ballast-query-memory")?["backends"][0]["resident"].as_u64();
    assert!(resident > populated.get(1).copied() && resident < Some(SIZE << 20));
    assert_eq!(kvm::exits(vm.pid())?, 0);
    answers.sort();
    let median = answers[answers.len() / 2];
    assert!(median < Duration::from_millis(50), "{answers:?}");

    qmp.command("x-ballast-cancel-prealloc", json!({ "id": "mem0" }))?;
    let ended = qmp.wait_event(ENDED, PATIENCE)?["data"].take();
    assert_eq!(ended["state"], "cancelled", "{ended}");
    let there = ended["populated"].as_u64().unwrap_or(0);
    assert!(there < SIZE << 20, "{ended}");
    qmp.wait_event("RESUME", PATIENCE)?;
    let mut agent = vm.boot()?;
    agent.fill("rest", 1, 64)?;
    agent.verify("rest")?;
    assert_eq!(qmp.command("query-status", Value::Null)?["status"], "running");
    let held = vm.resident()?;
    assert!(held > there && held < SIZE << 20, "{held}: {ended}");
    vm.kill()
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn memory_is_filled_beside_the_guest() -> Result<()> {
    for kind in [Backing::Anonymous, Backing::HugeMemfd] {
        let _pool = pool(kind, FILLED)?;
        let vm = paused(kind, FILLED, ",prealloc=background")?;
        let filled = eventually(PATIENCE, || Ok(kind.held(&vm)? == FILLED << 20))?;
        assert!(filled, "{kind:?} holds {} bytes", kind.held(&vm)?);
        assert_eq!(kvm::exits(vm.pid())?, 0, "{kind:?}");
    }
    Ok(())
}

/// A guest in whose balloon half of its memory is, is filled but for that half, by hand.
#[test]
#[ignore = "needs the lab: cargo lab test"]
fn what_the_balloon_has_is_not_filled_again() -> Result<()> {
    let (kind, size) = (Backing::Memfd, FILLED << 20);
    // What a guest reports stays out for good, and it reports nearly all that is free.
    let device = format!("{},free-page-reporting=off", balloon::DEVICE[1]);
    let launch = Launch::tiny().args([balloon::DEVICE[0], &device]).qmp();
    let mut vm = kind.launch(launch, FILLED, "").start()?;
    let mut agent = vm.boot()?;
    let mut qmp = vm.qmp()?;
    balloon::ask(&mut qmp, size / 2)?;
    balloon::wait(&mut qmp, size / 2, PATIENCE)?;

    set_prealloc(&mut qmp)?;
    let ended = qmp.wait_event(ENDED, PATIENCE)?["data"].take();
    let figure = |name: &str| ended[name].as_u64().unwrap_or(0);
    assert_eq!(
        (&ended["id"], &ended["state"]),
        (&json!("mem0"), &json!("done")),
        "{ended}"
    );
    assert!(figure("skipped") >= size / 2, "{ended}");
    assert_eq!(figure("populated") + figure("skipped"), size, "{ended}");
    // What the guest uses of a block that was left out comes on top.
    let held = kind.held(&vm)?;
    assert!(held >= figure("populated") && held <= size / 2, "{held}: {ended}");
    let told = qmp.command("x-ballast-query-prealloc", Value::Null)?;
    assert_eq!(
        (&told[0]["mode"], &told[0]["populated"]),
        (&json!("background"), &ended["populated"])
    );

    balloon::ask(&mut qmp, size)?;
    balloon::wait(&mut qmp, size, PATIENCE)?;
    agent.fill("again", 2, 160)?;
    agent.verify("again")?;
    // The balloon is empty: what it had is filled too.
    set_prealloc(&mut qmp)?;
    let second = qmp.wait_event(ENDED, PATIENCE)?["data"].take();
    assert!(
        second["populated"].as_u64() > ended["populated"].as_u64(),
        "{second}"
    );
    agent.verify("again")?;
    vm.kill()
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_preallocation_beside_the_guest_is_cancelled() -> Result<()> {
    let vm = paused(Backing::Anonymous, LARGE, "")?;
    let mut qmp = vm.qmp()?;
    set_prealloc(&mut qmp)?;
    qmp.command("x-ballast-cancel-prealloc", json!({ "id": "mem0" }))?;
    let ended = qmp.wait_event(ENDED, PATIENCE)?["data"].take();
    assert_eq!(ended["state"], "cancelled", "{ended}");
    let held = vm.resident()?;
    assert!(held < LARGE << 20, "{held}: {ended}");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(vm.resident()?, held, "it goes on");
    Ok(())
}

const ENDED: &str = "x-ballast-PREALLOC_ENDED";
/// How long the host may need to fill a guest.
const PATIENCE: Duration = Duration::from_secs(30);

fn set_prealloc(qmp: &mut Qmp) -> Result<()> {
    let arguments = json!({ "path": "/objects/mem0", "property": "prealloc", "value": true });
    qmp.command("qom-set", arguments).map(drop)
}

/// A guest that is built but does not run yet, with a kernel alone, so that little of its RAM is used.
fn paused(kind: Backing, mebibytes: u64, properties: &str) -> Result<Vm> {
    let launch = Launch::new().args(["-kernel", names::TINY_IMAGE, "-S"]).qmp();
    let vm = kind.launch(launch, mebibytes, properties).start()?;
    let status = vm.qmp()?.command("query-status", Value::Null)?;
    assert_eq!(status["status"], "prelaunch", "{kind:?}");
    assert_eq!(status["running"], false, "{kind:?}");
    assert_eq!(kvm::exits(vm.pid())?, 0, "{kind:?}");
    Ok(vm)
}

/// Huge pages for one guest, if it wants any.
fn pool(kind: Backing, mebibytes: u64) -> Result<Option<Knob>> {
    let pages = (mebibytes << 20) / HUGE_PAGE;
    kind.is_huge().then(|| ALL_2M.set(pages)).transpose()
}
