//! From exec to the first word of the guest's first program.
//!
//! An emulated lab host keeps translations of the code that its guests ran, and throws them away when the memory in which that
//! code lay is cleared for the next guest: 0.2 to 1.1 s for each huge page of a kernel, where 10 ms is usual, and more than all
//! else that a start does. So a guest that was measured is stopped and keeps its memory, and the next gets other memory.

use std::time::Duration;

use rustix::process::Signal;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use super::machine::{BOTH, Machine, PAIRS, Vmm};
use super::report::Report;
use crate::agent::MARK;
use crate::harness::agent::BOOT;
use crate::harness::backing::Backing;
use crate::harness::vm::Vm;
use crate::harness::{Error, Result};

/// The guest.
const MACHINE: Machine = Machine {
    mebibytes: 128,
    processors: 1,
    backing: Backing::Anonymous,
    balloon: "",
};
/// The processor of the lab host on which the VMM runs; we read on the others. Without this, times have two modes.
const PROCESSOR: usize = 1;

/// Measures.
pub fn measure(report: &mut Report<'_>) -> Result<()> {
    let mut stopped = Vec::new();
    let mut boot = |vmm| boot(vmm, &mut stopped);
    // The first of each reads its program's pages into the cache, which is no part of the comparison.
    for vmm in BOTH {
        boot(vmm)?;
    }
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        let [ours, theirs] = BOTH.map(&mut boot);
        pairs.push((ours?.as_secs_f64(), theirs?.as_secs_f64()));
    }
    report.pairs("boot.user-space", "s", &pairs);
    Ok(())
}

/// Boots a guest pinned and tells how long it took. The guest is stopped then.
fn boot(vmm: Vmm, stopped: &mut Vec<Vm>) -> Result<Duration> {
    let launch = vmm.launch(&MACHINE);
    let mut vm = pinned(|| launch.start())??;
    let console = vm.console()?;
    console
        .transcript
        .wait_for(MARK.get(..1).unwrap_or(MARK), 0, BOOT)?;
    let took = vm.started().elapsed();
    // It was the mark's.
    console.transcript.wait_for(MARK, 0, BOOT)?;
    vm.signal(Signal::STOP)?;
    stopped.push(vm);
    Ok(took)
}

/// Does something on one processor; what it starts stays there.
pub fn pinned<T>(action: impl FnOnce() -> T) -> Result<T> {
    let failed = |error: rustix::io::Errno| Error::Run {
        program: "something on one processor".into(),
        source: error.into(),
    };
    let before = sched_getaffinity(None).map_err(failed)?;
    let mut one = CpuSet::new();
    one.set(PROCESSOR);
    sched_setaffinity(None, &one).map_err(failed)?;
    let result = action();
    sched_setaffinity(None, &before).map_err(failed)?;
    Ok(result)
}
