//! Whether a large guest starts as fast as a small one: from exec to the first KVM_RUN.

use std::thread;
use std::time::{Duration, Instant};

use super::boot::pinned;
use super::machine::{Machine, PAIRS, Vmm};
use super::report::Report;
use crate::harness::backing::Backing;
use crate::harness::{Error, Result, kvm};

/// The large guest and the small one, in MiB. Nothing of either is reserved: the lab host has 8 GiB.
const LARGE: u64 = 512 << 10;
const SMALL: u64 = 1 << 10;
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often KVM's counter is looked at.
const GLANCE: Duration = Duration::from_micros(200);

/// Measures.
pub fn measure(report: &mut Report<'_>) -> Result<()> {
    for mebibytes in [LARGE, SMALL] {
        start(mebibytes)?;
    }
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        pairs.push((start(LARGE)?, start(SMALL)?));
    }
    report.pairs_with("Ballast with 1 GiB", "start.512-gib", "ms", &pairs);
    Ok(())
}

/// Milliseconds until KVM has counted the first exit of a vCPU, which its first instruction causes: its page is not there.
fn start(mebibytes: u64) -> Result<f64> {
    let machine = Machine {
        mebibytes,
        processors: 1,
        backing: Backing::Anonymous,
        balloon: "",
    };
    let launch = Vmm::Ballast.launch_with(&machine, ",reserve=off");
    let vm = pinned(|| launch.start())??;
    let deadline = Instant::now() + PATIENCE;
    // Until there is a VM there is no counter.
    while !matches!(kvm::exits(vm.pid()), Ok(exits) if exits > 0) {
        if Instant::now() > deadline {
            return Err(Error::TimedOut {
                what: format!("first exit of a guest with {mebibytes} MiB"),
                patience: PATIENCE,
                seen: vm.errors.text(),
            });
        }
        thread::sleep(GLANCE);
    }
    Ok(vm.started().elapsed().as_secs_f64() * 1000.0)
}
