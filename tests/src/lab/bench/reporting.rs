//! Free page reporting: how long memory that a guest has freed stays with the host's processes, when nobody asks for it.

use std::thread;
use std::time::{Duration, Instant};

use super::amounts::Amounts;
use super::machine::{Guest, Machine};
use super::pairs::Contest;
use super::report::Report;
use crate::harness::backing::Backing;
use crate::harness::{Error, Result};

/// How long all may take, and one guest.
const ALL: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the host's memory is looked at.
const GLANCE: Duration = Duration::from_millis(20);
/// The part that may stay away, in percent: Linux keeps some of what is freed at hand.
const KEPT: u64 = 10;

/// Measures.
pub fn measure(amounts: Amounts, report: &mut Report<'_>) -> Result<()> {
    report.note("balloon: free page reporting");
    let machine = Machine {
        mebibytes: amounts.ram,
        processors: 2,
        backing: Backing::Anonymous,
        balloon: ",free-page-reporting=on",
    };
    let times = Contest::boot(&machine)?.pairs(ALL, |_, guest| back(guest, amounts))?;
    report.pairs("balloon.anonymous.reporting", "s", &times);
    Ok(())
}

/// Seconds from the moment at which a program in the guest has freed its memory until the host has it back.
fn back(guest: &mut Guest, amounts: Amounts) -> Result<f64> {
    let before = guest.vm.resident()?;
    guest.touch(amounts.touched)?;
    let start = Instant::now();
    let held = guest.vm.resident()?;
    let limit = before + held.saturating_sub(before) * KEPT / 100;
    loop {
        let now = guest.vm.resident()?;
        if now <= limit {
            return Ok(start.elapsed().as_secs_f64());
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::TimedOut {
                what: format!("return of {} MiB to the host", amounts.touched),
                patience: PATIENCE,
                seen: format!("{held} bytes held before, {now} after"),
            });
        }
        thread::sleep(GLANCE);
    }
}
