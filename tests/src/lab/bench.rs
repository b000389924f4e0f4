//! `cargo lab bench`: figures of Ballast beside QEMU's, taken in turns in one run.
//!
//! Each area runs in a lab host of its own, or on the machine itself where it needs no guest: there it is a command of
//! this program (`bench-here`) that writes one line of JSON a figure. The budgets are kept here, outside.

pub mod amounts;
pub mod balloon;
pub mod blk;
pub mod boot;
pub mod budget;
pub mod cpu;
pub mod hugepages;
pub mod machine;
pub mod measured;
pub mod net;
pub mod overhead;
pub mod pairs;
pub mod pause;
pub mod populate;
pub mod prealloc;
pub mod qmp;
pub mod report;
pub mod reporting;
pub mod spread;
pub mod start;
pub mod table;
pub mod units;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::budget::Row;
use self::measured::Measured;
use self::report::{Collector, Report};
use super::host::{Outcome, Streams};
use super::paths::Paths;
use super::setup::Purpose;
use super::workshop::{self, Workshop};
use super::{Error, Result, distribution, guest, qemu};
use crate::harness::{self, knob::Knob};
use crate::job::Job;

/// The initramfs of the guests that are measured: the agent alone, so that user space begins as soon as it can.
pub const INITRAMFS: &str = "/lab/bench.cpio";
/// Whether the kernel moves pages to the node of the processor that uses them.
const BALANCING: &str = "/proc/sys/kernel/numa_balancing";
/// The area whose guests have a distribution's disk.
const DISTRIBUTION_WANTED_BY: &str = "hugepages";
/// How long one area may take.
const PATIENCE: Duration = Duration::from_secs(1800);

/// What is measured together.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    /// Its name, with which the names of its figures begin.
    pub name: &'static str,
    measure: Measure,
}

/// Where and how an area is measured.
#[derive(Clone, Copy, Debug)]
enum Measure {
    /// In a lab host.
    Lab(fn(&mut Report<'_>) -> harness::Result<()>),
    /// On this machine.
    Here(fn(&prealloc::Programs, &mut Report<'_>) -> harness::Result<()>),
}

/// Every area, in the order of a full run.
pub const AREAS: [Area; 9] = [
    area("overhead", Measure::Lab(overhead::measure)),
    area("boot", Measure::Lab(boot::measure)),
    area("start", Measure::Lab(start::measure)),
    area("prealloc", Measure::Here(prealloc::measure)),
    area("balloon", Measure::Lab(balloon::measure)),
    area("qmp", Measure::Lab(qmp::measure)),
    area("blk", Measure::Lab(blk::measure)),
    area("net", Measure::Lab(net::measure)),
    area(DISTRIBUTION_WANTED_BY, Measure::Lab(hugepages::measure)),
];

const fn area(name: &'static str, measure: Measure) -> Area {
    Area { name, measure }
}

/// What to measure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Names of areas; all if there are none.
    pub names: Vec<String>,
    /// Whether a missed budget is a failure.
    pub check: bool,
}

/// The exit code when a budget is missed.
const MISSED: u8 = 3;

impl Area {
    /// The area of a name.
    pub fn find(name: &str) -> Result<Area> {
        let found = AREAS.into_iter().find(|area| area.name == name);
        found.ok_or_else(|| {
            let names = AREAS.map(|area| area.name).join(", ");
            Error::Usage(format!("there is no benchmark `{name}`: there are {names}"))
        })
    }
}

/// Measures; returns the exit code.
pub fn run(selection: &Selection) -> Result<u8> {
    let areas = if selection.names.is_empty() {
        AREAS.to_vec()
    } else {
        let named = selection.names.iter().map(|name| Area::find(name));
        named.collect::<Result<Vec<_>>>()?
    };
    let paths = Paths::new()?;
    let choice = workshop::choose(&paths, Purpose::Tests, false, |choice| println!("{choice}"))?;
    let workshop = Workshop::new(paths, choice)?;
    println!("bench: beside {}", qemu::version()?);
    println!("{}", table::head());
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    for area in areas {
        let mut take = |measured: Measured| rows.push(Row::new(measured));
        if let Err(error) = measure(&workshop, area, &mut take) {
            // What the other areas tell is not lost.
            eprintln!("bench: {}: {error}", area.name);
            failures.push(area.name);
        }
    }
    let file = workshop.paths.lab().join("bench.json");
    let text = serde_json::to_string_pretty(&rows).map_err(|error| Error::Failed(error.to_string()))?;
    fs::write(&file, text + "\n").map_err(Error::file("write", &file))?;
    println!("bench: {} figures in {}", rows.len(), file.display());
    if !failures.is_empty() {
        return Err(Error::Failed(format!("not measured: {}", failures.join(", "))));
    }
    let missed: Vec<&str> = rows
        .iter()
        .filter(|row| row.within == Some(false))
        .map(|row| row.measured.name.as_str())
        .collect();
    if missed.is_empty() {
        return Ok(0);
    }
    println!("bench: over budget: {}", missed.join(", "));
    Ok(if selection.check { MISSED } else { 0 })
}

/// Measures one area where it runs; `take` gets each figure.
fn measure(workshop: &Workshop, area: Area, take: &mut dyn FnMut(Measured)) -> Result<()> {
    match area.measure {
        Measure::Lab(_) => in_lab_host(workshop, area, take),
        Measure::Here(measure) => {
            let programs = prealloc::Programs {
                ballast: workshop.programs.ballast.clone(),
                lab: workshop.programs.lab.clone(),
                kernel: workshop.tiny()?.image,
            };
            let mut show = |measured: Measured| {
                println!("{}", table::row(&Row::new(measured.clone())));
                take(measured);
            };
            let mut report = Report::new(qemu::version()?, &mut show);
            measure(&programs, &mut report).map_err(failure)
        }
    }
}

fn in_lab_host(workshop: &Workshop, area: Area, take: &mut dyn FnMut(Measured)) -> Result<()> {
    let job = Job {
        command: ["/lab/bin/lab", "bench-here", area.name]
            .map(str::to_owned)
            .to_vec(),
        environment: Vec::new(),
        directory: "/tmp".into(),
        terminal: None,
    };
    let mut contents = workshop.contents(job, Some(&workshop.tiny()?));
    contents.program(&workshop.programs.lab);
    let initramfs = initramfs(workshop)?;
    contents.files.push((INITRAMFS.into(), initramfs));
    qemu::add(&mut contents)?;
    qemu::add_images(&mut contents)?;
    if area.name == DISTRIBUTION_WANTED_BY {
        distribution::add(&mut contents, &workshop.paths)?;
    }
    let collector = Collector::default();
    let streams = Streams {
        input: None,
        output: Box::new(collector.clone()),
        error: Box::new(io::stderr()),
    };
    let outcome = workshop.run(
        &format!("bench-{}", area.name),
        &contents,
        streams,
        Some(PATIENCE),
    )?;
    collector.take()?.into_iter().for_each(take);
    match outcome {
        Outcome::Exit(0) => Ok(()),
        Outcome::Exit(_) | Outcome::Signal(_) => Err(Error::Failed(format!("ended with {outcome:?}"))),
        Outcome::TimedOut(last) => Err(Error::Failed(format!("took more than {PATIENCE:?}{last}"))),
        Outcome::Lost(last) => Err(Error::Failed(format!("the lab host was lost{last}"))),
    }
}

/// Measures one area on the machine where guests run, and writes each figure as a line of JSON.
pub fn here(name: &str) -> Result<u8> {
    let area = Area::find(name)?;
    let Measure::Lab(measure) = area.measure else {
        return Err(Error::Usage(format!("{name} is not for a lab host")));
    };
    let mut failed = None;
    let mut take = |measured: Measured| match serde_json::to_string(&measured) {
        Ok(line) => println!("{line}"),
        Err(error) => failed = Some(error.to_string()),
    };
    // It would move pages of guests whenever it likes, at the cost of their vCPU threads.
    let balancing = Path::new(BALANCING);
    let still = balancing.exists().then(|| Knob::set(balancing, "0")).transpose();
    let _still = still.map_err(failure)?;
    let mut report = Report::new(qemu::version()?, &mut take);
    measure(&mut report).map_err(failure)?;
    failed.map_or(Ok(0), |text| Err(Error::Failed(text)))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failure(error: harness::Error) -> Error {
    Error::Failed(error.to_string())
}

fn initramfs(workshop: &Workshop) -> Result<PathBuf> {
    let path = workshop.paths.lab().join("bench.cpio");
    let partial = path.with_extension(std::process::id().to_string());
    guest::write_bare(&workshop.programs.agent, &partial)?;
    fs::rename(&partial, &path).map_err(Error::file("rename", &partial))?;
    Ok(path)
}
