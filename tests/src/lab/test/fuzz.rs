//! The fuzz targets, for a short while each; `cargo lab test --long` lets them run longer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use super::super::paths::{Paths, TARGET};
use super::super::{Error, Result, build, process};
use super::report::{Case, Report};

/// Time for building and running together, and for each target of a long run.
const TOGETHER: Duration = Duration::from_secs(220);
const LONG: Duration = Duration::from_secs(600);
/// A target runs for no longer than this, and for no less.
const AT_MOST: Duration = Duration::from_secs(60);
const AT_LEAST: Duration = Duration::from_secs(10);
/// No input may take longer than this, in seconds.
const INPUT: u64 = 10;

/// Builds the targets and runs them, as many at a time as there are processors.
pub fn run(paths: &Paths, long: bool, report: &mut Report) -> Result<()> {
    report.section("fuzz");
    let directory = paths.root.join("tests/fuzz");
    let targets = targets(&directory.join("fuzz_targets"))?;
    let start = Instant::now();
    let mut failed = false;
    report.check("fuzz: build", || {
        build_all(paths, &directory).inspect_err(|_| failed = true)
    });
    if failed {
        return Ok(());
    }
    let abreast = thread::available_parallelism().map_or(1, usize::from);
    let rounds = u32::try_from(targets.len().div_ceil(abreast))
        .unwrap_or(u32::MAX)
        .max(1);
    let share = TOGETHER.saturating_sub(start.elapsed()) / rounds;
    let time = if long {
        LONG
    } else {
        share.clamp(AT_LEAST, AT_MOST)
    };
    for round in targets.chunks(abreast) {
        let cases: Vec<Case> = thread::scope(|scope| {
            let runs: Vec<_> = round
                .iter()
                .map(|target| scope.spawn(|| run_one(paths, &directory, target, time)))
                .collect();
            runs.into_iter().filter_map(|run| run.join().ok()).collect()
        });
        if cases.len() < round.len() {
            return Err(Error::Failed("running a fuzz target panicked".into()));
        }
        cases.into_iter().for_each(|case| report.add(case));
    }
    Ok(())
}

/// Every target is a file, or a directory of files.
fn targets(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory).map_err(Error::file("list", directory))?;
    let stem = |path: PathBuf| Some(path.file_stem()?.to_str()?.to_owned());
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| stem(entry.path())).collect();
    names.sort();
    Ok(names)
}

fn output(paths: &Paths) -> PathBuf {
    paths.target.join("fuzz")
}

fn build_all(paths: &Paths, directory: &Path) -> Result<()> {
    let mut command = build::cargo(paths);
    // The sanitizer is not stable; the pinned compiler has it all the same.
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .args(["fuzz", "build", "--fuzz-dir"])
        .arg(directory);
    command
        .args(["--target", TARGET, "--target-dir"])
        .arg(output(paths));
    process::logged(&mut command, &paths.logs().join("fuzz-build.log"))
}

fn program(paths: &Paths, name: &str) -> PathBuf {
    output(paths).join(TARGET).join("release").join(name)
}

fn run_one(paths: &Paths, directory: &Path, target: &str, time: Duration) -> Case {
    let start = Instant::now();
    let failure = fuzz(paths, directory, target, time)
        .err()
        .map(|error| error.to_string());
    Case {
        name: format!("fuzz: {target}"),
        took: start.elapsed(),
        failure,
    }
}

fn fuzz(paths: &Paths, directory: &Path, target: &str, time: Duration) -> Result<()> {
    // New inputs stay out of the source; the seeds that come with it are read.
    let corpus = paths.lab().join("corpus").join(target);
    let artifacts = paths.lab().join("artifacts");
    for path in [&corpus, &artifacts] {
        fs::create_dir_all(path).map_err(Error::file("create", path))?;
    }
    let mut command = Command::new(program(paths, target));
    command.arg(&corpus);
    let seeds = directory.join("corpus").join(target);
    if seeds.is_dir() {
        command.arg(seeds);
    }
    command
        .arg(format!("-max_total_time={}", time.as_secs()))
        .arg(format!("-timeout={INPUT}"));
    command.arg(format!("-artifact_prefix={}/{target}-", artifacts.display()));
    process::logged(&mut command, &paths.logs().join(format!("fuzz-{target}.log")))
}
