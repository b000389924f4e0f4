//! The balloon: how fast memory goes and comes, what that costs the host, and how long the guest stands still.

use std::thread;
use std::time::{Duration, Instant};

use super::machine::{BOTH, Guest, Machine, PAIRS};
use super::report::Report;
use super::units::gibibytes;
use crate::harness::Error;
use crate::harness::Result;
use crate::harness::backing::{Backing, HUGE_PAGE};
use crate::harness::balloon;
use crate::harness::hugepages::ALL_2M;

/// The guest's RAM in MiB.
pub const RAM: u64 = 768;
/// How much of it is taken.
pub const TAKEN: u64 = 512;
/// How much the guest writes before, so that the host holds what is taken.
pub const TOUCHED: u64 = 576;
const MEBIBYTE: u64 = 1 << 20;
/// How long a balloon may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often the balloon's size is asked for: seldom enough to cost nothing beside the work.
const GLANCE: Duration = Duration::from_millis(20);
/// How long a guest rests before it is measured: its kernel has things to do after memory was freed.
const REST: Duration = Duration::from_millis(500);

/// The kinds of memory, by the name in the figures.
const KINDS: [(&str, Backing); 3] = [
    ("anonymous", Backing::Anonymous),
    ("memfd", Backing::Memfd),
    ("hugetlb", Backing::HugeMemfd),
];

/// What one inflate and the deflate after it came to.
#[derive(Clone, Copy, Debug)]
struct Round {
    /// GiB a second.
    inflate: f64,
    deflate: f64,
    /// Seconds of the host's processors for each GiB.
    inflate_cpu: f64,
    deflate_cpu: f64,
    /// Of what was taken, the part that the host got, in percent.
    freed: f64,
}

/// One figure of a round.
type Figure = fn(&Round) -> f64;

/// Measures.
pub fn measure(report: &mut Report<'_>) -> Result<()> {
    for (name, backing) in KINDS {
        report.note(&format!("balloon: {name} memory"));
        measure_kind(name, backing, report)?;
    }
    Ok(())
}

fn measure_kind(name: &str, backing: Backing, report: &mut Report<'_>) -> Result<()> {
    // Both guests live all the time, so that the two of a pair follow each other closely.
    let pages = 2 * RAM * MEBIBYTE / HUGE_PAGE;
    let _pool = backing.is_huge().then(|| ALL_2M.set(pages)).transpose()?;
    let machine = Machine {
        mebibytes: RAM,
        processors: 2,
        backing,
        // QEMU's default: what guests report by themselves would be work of other rounds.
        balloon: ",free-page-reporting=off",
    };
    let [mut ours, mut theirs] = guests(&machine)?;
    let mut rounds = Vec::new();
    for _ in 0..PAIRS {
        rounds.push((round(&mut ours)?, round(&mut theirs)?));
    }
    let figures: [(&str, &str, Figure); 5] = [
        ("inflate", "GiB/s", |round| round.inflate),
        ("inflate-cpu", "s/GiB", |round| round.inflate_cpu),
        ("freed", "%", |round| round.freed),
        ("deflate", "GiB/s", |round| round.deflate),
        ("deflate-cpu", "s/GiB", |round| round.deflate_cpu),
    ];
    for (figure, unit, of) in figures {
        let pairs: Vec<_> = rounds
            .iter()
            .map(|(ours, theirs)| (of(ours), of(theirs)))
            .collect();
        report.pairs(&format!("balloon.{name}.{figure}"), unit, &pairs);
    }
    // The watching thread takes a processor for itself, so these rounds stand apart.
    let mut pauses = Vec::new();
    for _ in 0..PAIRS {
        pauses.push((pause(&mut ours)?, pause(&mut theirs)?));
    }
    report.pairs(&format!("balloon.{name}.guest-pause"), "ms", &pauses);
    Ok(())
}

fn guests(machine: &Machine) -> Result<[Guest; 2]> {
    let [ours, theirs] = BOTH.map(|vmm| vmm.boot(machine));
    Ok([ours?, theirs?])
}

/// Takes memory that the host holds, and gives it back.
fn round(guest: &mut Guest) -> Result<Round> {
    guest.touch(TOUCHED)?;
    thread::sleep(REST);
    let resident = guest.vm.resident()?;
    let (inflate, inflate_cpu) = change(guest, RAM - TAKEN)?;
    let freed = resident.saturating_sub(guest.vm.resident()?);
    let (deflate, deflate_cpu) = change(guest, RAM)?;
    Ok(Round {
        inflate,
        deflate,
        inflate_cpu,
        deflate_cpu,
        freed: 100.0 * gibibytes(freed)? / gibibytes(TAKEN * MEBIBYTE)?,
    })
}

/// Brings the guest to another size; GiB a second, and seconds of the host's processors a GiB.
fn change(guest: &mut Guest, mebibytes: u64) -> Result<(f64, f64)> {
    let before = guest.threads.spent()?;
    let start = Instant::now();
    reach(guest, mebibytes)?;
    let took = start.elapsed();
    let spent = guest.threads.spent()?.since(before);
    let amount = gibibytes(TAKEN * MEBIBYTE)?;
    Ok((amount / took.as_secs_f64(), spent.host().as_secs_f64() / amount))
}

/// The longest time, in milliseconds, for which a thread of the guest stood still during an inflate.
fn pause(guest: &mut Guest) -> Result<f64> {
    guest.touch(TOUCHED)?;
    thread::sleep(REST);
    guest.agent.watch()?;
    reach(guest, RAM - TAKEN)?;
    let gaps = guest.agent.gaps()?;
    reach(guest, RAM)?;
    Ok(gaps.longest.as_secs_f64() * 1000.0)
}

fn reach(guest: &mut Guest, mebibytes: u64) -> Result<()> {
    let target = mebibytes * MEBIBYTE;
    balloon::ask(&mut guest.qmp, target)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let actual = balloon::actual(&mut guest.qmp)?;
        if actual == target {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Error::TimedOut {
                what: format!("balloon at {mebibytes} MiB"),
                patience: PATIENCE,
                seen: format!("{} MiB", actual / MEBIBYTE),
            });
        }
        thread::sleep(GLANCE);
    }
}
