//! The balloon: how fast memory goes and comes, and what that costs the host.

use std::thread;
use std::time::{Duration, Instant};

use super::amounts::Amounts;
use super::machine::{Guest, Machine};
use super::pairs::{self, Contest};
use super::pause;
use super::report::Report;
use super::reporting;
use super::units::gibibytes;
use crate::harness::Result;
use crate::harness::backing::{Backing, HUGE_PAGE};
use crate::harness::hugepages::ALL_2M;

const MEBIBYTE: u64 = 1 << 20;
/// How long the rounds of one kind of memory may take.
const ROUNDS: Duration = Duration::from_secs(25);
/// How long a guest rests before it is measured: its kernel has things to do after memory was freed.
pub const REST: Duration = Duration::from_millis(500);

/// The kinds of memory, by the name in the figures.
const KINDS: [(&str, Backing); 3] = [
    ("anonymous", Backing::Anonymous),
    ("memfd", Backing::Memfd),
    ("hugetlb", Backing::HugeMemfd),
];

/// What one change of a guest's size came to.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// GiB a second.
    rate: f64,
    /// Seconds of the host's processors for each GiB.
    cpu: f64,
}

/// An inflate and the deflate after it.
#[derive(Clone, Copy, Debug)]
struct Round {
    inflate: Change,
    deflate: Change,
    /// Of what was taken, the part that the host got, in percent.
    freed: f64,
}

/// One figure of a round.
type Figure = fn(&Round) -> f64;

/// Measures.
pub fn measure(report: &mut Report<'_>) -> Result<()> {
    let amounts = Amounts::here()?;
    for (name, backing) in KINDS {
        report.note(&format!("balloon: {name} memory"));
        measure_kind(name, backing, amounts, report)?;
    }
    pause::measure(amounts, report)?;
    reporting::measure(amounts, report)
}

fn measure_kind(name: &str, backing: Backing, amounts: Amounts, report: &mut Report<'_>) -> Result<()> {
    // Both guests live all the time, so that the two of a pair follow each other closely.
    let pages = 2 * amounts.ram * MEBIBYTE / HUGE_PAGE;
    let _pool = backing.is_huge().then(|| ALL_2M.set(pages)).transpose()?;
    let machine = Machine {
        mebibytes: amounts.ram,
        processors: 1,
        backing,
        // QEMU's default: what guests report by themselves would be work of other rounds.
        balloon: ",free-page-reporting=off",
    };
    let mut contest = Contest::boot(&machine)?;
    let rounds = contest.pairs(ROUNDS, |_, guest| round(guest, amounts))?;
    let figures: [(&str, &str, Figure); 5] = [
        ("inflate", "GiB/s", |round| round.inflate.rate),
        ("inflate-cpu", "s/GiB", |round| round.inflate.cpu),
        ("freed", "%", |round| round.freed),
        ("deflate", "GiB/s", |round| round.deflate.rate),
        ("deflate-cpu", "s/GiB", |round| round.deflate.cpu),
    ];
    for (figure, unit, of) in figures {
        pairs::report(report, &format!("balloon.{name}.{figure}"), unit, &rounds, of);
    }
    Ok(())
}

/// Takes memory that the host holds, and gives it back.
fn round(guest: &mut Guest, amounts: Amounts) -> Result<Round> {
    guest.touch(amounts.touched)?;
    thread::sleep(REST);
    let taken = gibibytes(amounts.taken * MEBIBYTE)?;
    let resident = guest.vm.resident()?;
    let inflate = change(guest, amounts.left(), taken)?;
    let freed = resident.saturating_sub(guest.vm.resident()?);
    let deflate = change(guest, amounts.ram, taken)?;
    Ok(Round {
        inflate,
        deflate,
        freed: 100.0 * gibibytes(freed)? / taken,
    })
}

/// Brings the guest to another size, which is `amount` GiB away.
fn change(guest: &mut Guest, mebibytes: u64, amount: f64) -> Result<Change> {
    let before = guest.threads.spent()?;
    let start = Instant::now();
    guest.reach(mebibytes)?;
    let took = start.elapsed();
    let spent = guest.threads.spent()?.since(before);
    Ok(Change {
        rate: amount / took.as_secs_f64(),
        cpu: spent.host().as_secs_f64() / amount,
    })
}
