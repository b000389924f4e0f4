//! Preallocated RAM is all there before a vCPU runs; other RAM is not.

use std::time::Duration;

use serde_json::Value;
use tests::harness::backing::{ALL, Backing, HUGE_PAGE};
use tests::harness::hugepages::ALL_2M;
use tests::harness::knob::Knob;
use tests::harness::vm::{Launch, Vm, eventually};
use tests::harness::{Result, kvm, names};

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
    let mut vm = Launch::new()
        .args(["-kernel", names::TINY_IMAGE, "-S"])
        .args(["-mem-prealloc", "-m", &FILLED.to_string()])
        .qmp()
        .start()?;
    let mut qmp = vm.qmp()?;
    assert_eq!(vm.resident()?, FILLED << 20);
    assert_eq!(kvm::exits(vm.pid())?, 0);
    // The figure that stayed 0 so far counts.
    qmp.command("cont", Value::Null)?;
    let ran = eventually(Duration::from_secs(20), || Ok(kvm::exits(vm.pid())? > 0));
    assert!(matches!(ran, Ok(true)), "{ran:?}");
    vm.kill()
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
