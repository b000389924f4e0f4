//! `cargo lab demo`: a guest's memory, taken and given back, measured from outside.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use serde_json::{Value, json};

use super::choice::Place;
use super::host::{Outcome, Streams};
use super::paths::Paths;
use super::setup::Purpose;
use super::workshop::{self, Workshop, names};
use super::{Error, Result};
use crate::harness::agent::Agent;
use crate::harness::qmp::Qmp;
use crate::harness::vm::{COMMAND_LINE, Launch, eventually};
use crate::harness::{self, Vm};
use crate::job::Job;

/// The guest's RAM in MiB. A distribution's kernel keeps some 200 MiB of it for itself in the end, and the guest shall be able
/// to write 80 % twice.
const RAM: u64 = 1280;
/// How much of it the guest writes, and how much is taken, in percent.
const WRITTEN: u64 = 80;
const ASKED: u64 = 60;
/// How much of what was asked has to come, in percent.
const ENOUGH: u64 = 95;
/// How long a balloon may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long the guest's kernel may take to find its free pages again, and what it has to have beyond the pattern, in MiB.
const SETTLE: Duration = Duration::from_secs(30);
const SLACK: u64 = 8;
/// How long the lab host may take for all of it.
const LAB_PATIENCE: Duration = Duration::from_secs(600);

/// What the demo runs.
#[derive(Clone, Debug)]
pub struct Show {
    ballast: PathBuf,
    kernel: PathBuf,
    initramfs: PathBuf,
}

/// Prepares everything, and shows it where guests run; returns the exit code.
pub fn run() -> Result<u8> {
    let paths = Paths::new()?;
    let choice = workshop::choose(&paths, Purpose::Guests, true, |choice| println!("{choice}"))?;
    let workshop = Workshop::new(paths, choice)?;
    if workshop.choice.place == Place::Direct {
        let show = Show {
            ballast: workshop.programs.ballast,
            kernel: workshop.stock.image,
            initramfs: workshop.guest,
        };
        return here(&show);
    }
    let job = Job {
        command: vec!["/lab/bin/lab".into(), "demo-here".into()],
        environment: Vec::new(),
        directory: "/tmp".into(),
        terminal: None,
    };
    let mut contents = workshop.contents(job, None);
    contents.program(&workshop.programs.lab);
    let run = || {
        let streams = Streams {
            input: None,
            output: Box::new(io::stdout()),
            error: Box::new(io::stderr()),
        };
        workshop.run("demo", &contents, streams, Some(LAB_PATIENCE))
    };
    let mut outcome = run()?;
    // As for tests: what fails in an emulated host is tried once more, and told.
    if let (Place::LabTcg, Outcome::Lost(last)) = (workshop.choice.place, &outcome) {
        println!("lab: SECOND TRY: the emulated lab host ended before the demo{last}");
        outcome = run()?;
    }
    match outcome {
        Outcome::Exit(_) | Outcome::Signal(_) => Ok(outcome.code()),
        Outcome::TimedOut(last) => Err(Error::Failed(format!(
            "the demo took more than {LAB_PATIENCE:?}{last}"
        ))),
        Outcome::Lost(last) => Err(Error::Failed(format!("the lab host ended before the demo{last}"))),
    }
}

/// Shows it on this machine, with what lies in the lab host.
pub fn in_lab_host() -> Result<u8> {
    here(&Show {
        ballast: "/lab/bin/ballast".into(),
        kernel: names::STOCK.into(),
        initramfs: names::GUEST.into(),
    })
}

fn here(show: &Show) -> Result<u8> {
    let measured = measure(show).map_err(|error| Error::Failed(error.to_string()))?;
    let percent = measured.freed * 100 / measured.asked;
    println!(
        "demo: asked {} MiB, freed {} MiB ({percent} %), given back {} MiB",
        measured.asked >> 20,
        measured.freed >> 20,
        measured.given_back >> 20
    );
    Ok(u8::from(!measured.enough()))
}

/// What came out, in bytes.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// What the balloon was asked for.
    asked: u64,
    /// Resident before less resident after the inflate.
    freed: u64,
    /// Resident after writing again less resident after the inflate.
    given_back: u64,
    /// Resident before the inflate.
    before: u64,
    /// Resident after writing again.
    after: u64,
}

impl Measured {
    fn enough(&self) -> bool {
        self.freed * 100 >= self.asked * ENOUGH && self.after * 100 >= self.before * ENOUGH
    }
}

fn measure(show: &Show) -> harness::Result<Measured> {
    let mut vm = Launch::new()
        .program(&show.ballast)
        .arg("-kernel")
        .arg(&show.kernel)
        .arg("-initrd")
        .arg(&show.initramfs)
        .args([
            "-append",
            COMMAND_LINE,
            "-device",
            // What the guest reports free by itself would be counted as the balloon's work.
            "virtio-balloon-pci,id=balloon0,free-page-reporting=off",
            "-m",
        ])
        .arg(RAM.to_string())
        .qmp()
        .start()?;
    let agent = vm.boot()?;
    let qmp = vm.qmp()?;
    println!("demo: a guest with {RAM} MiB of RAM on a distribution's kernel; MiB everywhere");
    println!(
        "{:<26} {:>8} {:>13} {:>9} {:>8}",
        "step", "target", "MemAvailable", "resident", "freed"
    );
    let mut table = Table {
        vm,
        agent,
        qmp,
        ram: RAM << 20,
        before: None,
    };
    let measured = table.steps().map_err(|error| table.vm.explain(error))?;
    table.agent.power_off()?;
    let status: ExitStatus = table.vm.wait(PATIENCE)?;
    if status.success() {
        Ok(measured)
    } else {
        Err(harness::Error::Connection(format!("ballast: {status}")))
    }
}

/// The steps, each of which prints a row.
struct Table<W: io::Write> {
    vm: Vm,
    agent: Agent<W>,
    qmp: Qmp,
    ram: u64,
    /// Resident before the inflate, once that is known.
    before: Option<u64>,
}

impl<W: io::Write> Table<W> {
    fn steps(&mut self) -> harness::Result<Measured> {
        let written = usize::try_from(RAM * WRITTEN / 100).unwrap_or(usize::MAX);
        let asked = (RAM * ASKED / 100) << 20;
        self.row("booted", self.ram)?;
        self.agent.fill("all", 1, written)?;
        let held = self.row("80 % written", self.ram)?;
        if held < (RAM * WRITTEN / 100) << 20 {
            return Err(harness::Error::Connection(format!(
                "the host shows only {} MiB of it",
                held >> 20
            )));
        }
        self.agent.free("all")?;
        let before = self.row("freed in the guest", self.ram)?;
        self.before = Some(before);

        let target = self.ram - asked;
        self.balloon(target)?;
        let enough = before.saturating_sub(asked / 100 * ENOUGH);
        // What the guest told us is released at once; a little patience costs nothing.
        eventually(Duration::from_secs(5), || Ok(self.vm.resident()? <= enough))?;
        let low = self.row("60 % taken", target)?;
        self.balloon(self.ram)?;
        // The guest's kernel keeps freed pages on lists of each CPU for a while, where they do not count as available.
        let wanted = ((written as u64) + SLACK) << 20;
        eventually(SETTLE, || Ok(self.agent.memory()?.available >= wanted))?;
        self.row("given back", self.ram)?;
        self.agent.fill("again", 2, written)?;
        self.agent.verify("again")?;
        let after = self.row("80 % written and verified", self.ram)?;
        Ok(Measured {
            asked,
            freed: before.saturating_sub(low),
            given_back: after.saturating_sub(low),
            before,
            after,
        })
    }

    /// Sets the target and waits until the guest is there.
    fn balloon(&mut self, target: u64) -> harness::Result<()> {
        self.qmp.command("balloon", json!({ "value": target }))?;
        let reached = eventually(PATIENCE, || {
            Ok(self.qmp.command("query-balloon", Value::Null)?["actual"].as_u64() == Some(target))
        })?;
        if reached {
            Ok(())
        } else {
            let answer = self.qmp.command("query-balloon", Value::Null)?;
            Err(harness::Error::Connection(format!(
                "the balloon did not reach {target}: {answer}"
            )))
        }
    }

    /// Prints a row and returns what the host holds for the guest.
    fn row(&mut self, step: &str, target: u64) -> harness::Result<u64> {
        let available = self.agent.memory()?.available;
        let resident = self.vm.resident()?;
        let freed = self.before.map_or_else(String::new, |before| {
            format!("{}", i128::from(before >> 20) - i128::from(resident >> 20))
        });
        println!(
            "{step:<26} {:>8} {:>13} {:>9} {freed:>8}",
            target >> 20,
            available >> 20,
            resident >> 20
        );
        Ok(resident)
    }
}
