//! `cargo lab test`: every test, in one program, with one summary.

pub mod arrows;
pub mod deny;
pub mod fuzz;
pub mod guests;
pub mod libtest;
pub mod report;
pub mod rooms;
pub mod tools;
pub mod unit;

use std::process::Command;
use std::thread;

use self::report::Report;
use super::paths::Paths;
use super::setup::Purpose;
use super::workshop::{self, Workshop};
use super::{Error, Result, build, process};

/// What to run.
#[derive(Clone, Debug)]
pub struct Selection {
    /// With those that take long.
    pub long: bool,
    /// Only lab tests whose names contain this.
    pub filter: Option<String>,
}

/// Runs the tests; returns the exit code.
pub fn run(selection: &Selection) -> Result<u8> {
    let paths = Paths::new()?;
    let choice = workshop::choose(&paths, Purpose::Tests, false, |choice| println!("{choice}"))?;
    let mut report = Report::new();
    if selection.filter.is_none() {
        tools::ensure(&paths)?;
        source(&paths, &mut report)?;
    }
    let executables = unit::build(&paths)?;
    if selection.filter.is_none() {
        unit::run(&executables, selection.long, &mut report)?;
    }
    report.section("guests");
    let workshop = Workshop::new(paths, choice)?;
    guests::run(&workshop, &executables, selection, &mut report)?;
    // Last, because a long run is longest here.
    if selection.filter.is_none() {
        fuzz::run(&workshop.paths, selection.long, &mut report)?;
    }
    Ok(report.finish())
}

/// What can be said about the source without running it. The tiny kernel is built meanwhile.
fn source(paths: &Paths, report: &mut Report) -> Result<()> {
    report.section("source");
    let kernel = {
        let paths = paths.clone();
        thread::spawn(move || super::tiny::find(&paths, &super::cache::Cache::new(paths.lab())))
    };
    report.check("format", || cargo(paths, "fmt", &["fmt", "--all", "--check"]));
    report.check("clippy", || {
        let arguments = [
            "clippy",
            "--quiet",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "--deny",
            "warnings",
        ];
        cargo(paths, "clippy", &arguments)
    });
    report.check("arrows between crates", || arrows::check(paths));
    report.check("rooms of unsafe code", || rooms::check(&paths.root));
    deny::check(paths, report);
    report.check("tiny guest kernel", || {
        let built = kernel
            .join()
            .map_err(|_| Error::Failed("building it panicked".into()))?;
        built.map(drop)
    });
    Ok(())
}

fn cargo(paths: &Paths, name: &str, arguments: &[&str]) -> Result<()> {
    let mut command: Command = build::cargo(paths);
    process::logged(command.args(arguments), &paths.logs().join(format!("{name}.log")))
}
