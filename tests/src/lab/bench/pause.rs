//! How long a guest stands still while its balloon is inflated.

use std::thread;
use std::time::Duration;

use super::amounts::Amounts;
use super::balloon::REST;
use super::machine::{Guest, Machine};
use super::pairs::Contest;
use super::report::Report;
use crate::harness::Result;
use crate::harness::backing::Backing;

/// How long all may take.
const ALL: Duration = Duration::from_secs(20);
/// The part of the balloon that is inflated: a thread that never rests makes each release wait for its processor.
const PART: u64 = 4;

/// Measures.
pub fn measure(amounts: Amounts, report: &mut Report<'_>) -> Result<()> {
    report.note("balloon: pauses of the guest");
    let machine = Machine {
        mebibytes: amounts.ram,
        // One watches and one inflates.
        processors: 2,
        backing: Backing::Anonymous,
        balloon: ",free-page-reporting=off",
    };
    let pauses = Contest::boot(&machine)?.pairs(ALL, |_, guest| longest(guest, amounts))?;
    report.pairs("balloon.anonymous.guest-pause", "ms", &pauses);
    Ok(())
}

/// The longest time, in milliseconds, for which a thread of the guest did not run.
fn longest(guest: &mut Guest, amounts: Amounts) -> Result<f64> {
    guest.touch(amounts.taken / PART)?;
    thread::sleep(REST);
    guest.agent.watch()?;
    guest.reach(amounts.ram - amounts.taken / PART)?;
    let gaps = guest.agent.gaps()?;
    guest.reach(amounts.ram)?;
    Ok(gaps.longest.as_secs_f64() * 1000.0)
}
