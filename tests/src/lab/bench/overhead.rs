//! What a VMM needs for itself: the memory of an idle guest's VMM that is not the guest's.

use std::thread;
use std::time::Duration;

use super::machine::{BOTH, Machine, PAIRS, Vmm};
use super::report::Report;
use super::units::mebibytes;
use crate::agent::MARK;
use crate::harness::agent::BOOT;
use crate::harness::backing::Backing;
use crate::harness::maps::{self, Mapping};
use crate::harness::{Error, Result};

/// The guest.
const MACHINE: Machine = Machine {
    mebibytes: 128,
    processors: 1,
    backing: Backing::Anonymous,
    balloon: "",
};
/// How long after the first sign of user space the VMM is looked at.
const IDLE: Duration = Duration::from_secs(2);

/// A VMM's own memory in MiB.
#[derive(Clone, Copy, Debug)]
struct Own {
    /// All that is resident, the program's text included.
    resident: f64,
    /// Of it, what no file stands behind.
    anonymous: f64,
    /// How many threads there are.
    threads: f64,
}

/// Measures.
pub fn measure(report: &mut Report<'_>) -> Result<()> {
    let mut pairs = Vec::new();
    for _ in 0..PAIRS {
        let [ours, theirs] = BOTH.map(own);
        pairs.push((ours?, theirs?));
    }
    let mut figure = |name: &str, unit: &str, of: fn(&Own) -> f64| {
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(ours, theirs)| (of(ours), of(theirs)))
            .collect();
        report.pairs(name, unit, &pairs);
    };
    figure("overhead.own", "MiB", |own| own.resident);
    figure("overhead.anonymous", "MiB", |own| own.anonymous);
    figure("overhead.threads", "", |own| own.threads);
    Ok(())
}

fn own(vmm: Vmm) -> Result<Own> {
    let mut vm = vmm.launch(&MACHINE).start()?;
    vm.console()?.wait_for(MARK, BOOT)?;
    thread::sleep(IDLE);
    let mappings = maps::smaps(vm.pid())?;
    let (guest, own): (Vec<_>, Vec<_>) = mappings.iter().partition(|mapping| is_guest(mapping));
    // A mapping beside it that the kernel joined with the guest's RAM would go unseen.
    if guest.len() != 1 {
        return Err(Error::Format {
            path: format!("/proc/{}/smaps", vm.pid()).into(),
            what: format!("single mapping of {} MiB, but {}", MACHINE.mebibytes, guest.len()),
        });
    }
    let sum = |field: &str| own.iter().map(|mapping| mapping.field(field)).sum();
    Ok(Own {
        resident: mebibytes(sum("Rss"))?,
        anonymous: mebibytes(sum("Anonymous"))?,
        threads: threads(vm.pid())?,
    })
}

fn is_guest(mapping: &Mapping) -> bool {
    mapping.size() == MACHINE.mebibytes << 20 && mapping.has_flag("wr")
}

fn threads(pid: u32) -> Result<f64> {
    let threads = maps::figure(pid, "status", Some("Threads"))?;
    Ok(f64::from(u32::try_from(threads).unwrap_or(u32::MAX)))
}
