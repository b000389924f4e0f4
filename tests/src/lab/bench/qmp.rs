//! How long answers take while the balloon is at work.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::amounts::Amounts;
use super::machine::{Guest, Machine, Vmm};
use super::pairs::{self, Contest};
use super::report::Report;
use super::spread::{percent_within, quantile};
use crate::harness::backing::Backing;
use crate::harness::balloon;
use crate::harness::{Error, Result};

/// What everybody answers, and what only Ballast does.
const QUERIES: [&str; 5] = [
    "query-status",
    "query-balloon",
    "query-cpus-fast",
    "query-memdev",
    "query-memory-size-summary",
];
const OUR_QUERIES: [&str; 3] = [
    "x-ballast-query-memory",
    "x-ballast-query-balloon",
    "x-ballast-query-faults",
];
/// The marks of the histogram, in milliseconds.
const MARKS: [(&str, f64); 8] = [
    ("0.5", 0.5),
    ("1", 1.0),
    ("2", 2.0),
    ("5", 5.0),
    ("10", 10.0),
    ("20", 20.0),
    ("50", 50.0),
    ("100", 100.0),
];
/// Between two questions: a client that asks without a pause would measure itself.
const PAUSE: Duration = Duration::from_millis(1);
/// How long all may take.
const ROUNDS: Duration = Duration::from_secs(25);
/// How long one inflate may take.
const PATIENCE: Duration = Duration::from_secs(120);
const MEBIBYTE: u64 = 1 << 20;

/// Answers of one VMM in one inflate, in milliseconds.
type Latencies = Vec<f64>;

/// Measures.
pub fn measure(report: &mut Report<'_>) -> Result<()> {
    let amounts = Amounts::here()?;
    let machine = Machine {
        mebibytes: amounts.ram,
        processors: 2,
        backing: Backing::Anonymous,
        balloon: ",free-page-reporting=off",
    };
    let rounds = Contest::boot(&machine)?.pairs(ROUNDS, |vmm, guest| inflate(vmm, guest, amounts))?;
    for (figure, share) in [("p50", 0.5), ("p99", 0.99), ("longest", 1.0)] {
        let of = |answers: &Latencies| quantile(answers, share).unwrap_or(f64::INFINITY);
        pairs::report(report, &format!("qmp.inflate.{figure}"), "ms", &rounds, of);
    }
    for (mark, limit) in MARKS {
        let of = |answers: &Latencies| percent_within(answers, limit);
        pairs::report(report, &format!("qmp.inflate.within-{mark}-ms"), "%", &rounds, of);
    }
    Ok(())
}

/// Asks one question after the other from the moment at which the balloon gets its target until it is there.
fn inflate(vmm: Vmm, guest: &mut Guest, amounts: Amounts) -> Result<Latencies> {
    guest.touch(amounts.touched)?;
    let target = amounts.left() * MEBIBYTE;
    let own: &[&str] = if vmm == Vmm::Ballast { &OUR_QUERIES } else { &[] };
    let mut latencies = Vec::new();
    balloon::ask(&mut guest.qmp, target)?;
    let start = Instant::now();
    for query in QUERIES.iter().chain(own).cycle() {
        let asked = Instant::now();
        let answer = guest.qmp.command(query, Value::Null)?;
        latencies.push(asked.elapsed().as_secs_f64() * 1000.0);
        if *query == "query-balloon" && answer["actual"] == target {
            break;
        }
        if start.elapsed() > PATIENCE {
            return Err(Error::TimedOut {
                what: format!("balloon of {vmm} at {} MiB", target / MEBIBYTE),
                patience: PATIENCE,
                seen: answer.to_string(),
            });
        }
        thread::sleep(PAUSE);
    }
    guest.reach(amounts.ram)?;
    Ok(latencies)
}
