//! Tests that run on this machine: those of every crate, and the examples in its documentation.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::super::paths::Paths;
use super::super::{Error, Result, build, process};
use super::libtest::{self, Verdict};
use super::report::{Case, Report};

/// A built test program.
#[derive(Clone, Debug)]
pub struct Executable {
    /// The package and the target: `tests::boot`.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    /// Where it expects to run.
    pub directory: PathBuf,
    /// Whether it is a file of a `tests` directory.
    pub integration: bool,
}

/// Builds every test program of the workspace.
pub fn build(paths: &Paths) -> Result<Vec<Executable>> {
    let mut command = build::cargo(paths);
    command.args([
        "test",
        "--no-run",
        "--quiet",
        "--locked",
        "--workspace",
        "--message-format",
        "json-render-diagnostics",
    ]);
    let text = process::capture(&mut command)?;
    Ok(text
        .lines()
        .filter_map(|line| executable(&serde_json::from_str(line).ok()?))
        .collect())
}

fn executable(message: &Value) -> Option<Executable> {
    if message["reason"] != "compiler-artifact" || message["profile"]["test"] != true {
        return None;
    }
    let path = message["executable"].as_str()?;
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?;
    let package = directory.file_name()?.to_str()?;
    let target = message["target"]["name"].as_str()?;
    let integration = message["target"]["kind"]
        .as_array()?
        .iter()
        .any(|kind| kind == "test");
    let name = if target == package {
        package.to_owned()
    } else {
        format!("{package}::{target}")
    };
    Some(Executable {
        name,
        path: path.into(),
        directory: directory.to_owned(),
        integration,
    })
}

/// Runs what needs no lab.
pub fn run(executables: &[Executable], long: bool, report: &mut Report) -> Result<()> {
    report.section("units and devices");
    for executable in executables {
        run_one(executable, long, report)?;
    }
    Ok(())
}

/// Arguments and environment with which a test program tells how long each test took.
pub const TIMES: [&str; 2] = ["-Zunstable-options", "--report-time"];
/// See [`TIMES`].
pub const TIMES_ENVIRONMENT: (&str, &str) = ("RUSTC_BOOTSTRAP", "1");

/// Set for tests that do more when there is time.
const LONG_ENVIRONMENT: (&str, &str) = ("BALLAST_TEST_LONG", "1");

fn run_one(executable: &Executable, long: bool, report: &mut Report) -> Result<()> {
    let mut command = Command::new(&executable.path);
    command
        .current_dir(&executable.directory)
        .stdin(Stdio::null())
        .args(TIMES);
    command
        .env(TIMES_ENVIRONMENT.0, TIMES_ENVIRONMENT.1)
        .env("CARGO_MANIFEST_DIR", &executable.directory);
    command.envs(long.then_some(LONG_ENVIRONMENT));
    let start = Instant::now();
    let output = command.output().map_err(|source| Error::Start {
        command: executable.path.display().to_string(),
        source,
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (mut passed, mut failed) = (0, 0);
    for line in text
        .lines()
        .filter_map(libtest::parse)
        .filter(|line| line.verdict != Verdict::Ignored)
    {
        let failure = (line.verdict == Verdict::Failed).then(String::new);
        if failure.is_some() {
            failed += 1;
        } else {
            passed += 1;
        }
        let name = format!("{}::{}", executable.name, line.name);
        report.add_quietly(Case {
            name,
            took: line.took.unwrap_or_default(),
            failure,
        });
    }
    let took = start.elapsed();
    if output.status.success() {
        if passed > 0 {
            println!(
                "ok     {:>7.1} s  {} ({passed} tests)",
                took.as_secs_f64(),
                executable.name
            );
        }
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    println!(
        "FAILED {:>7.1} s  {} ({failed} of {} tests)\n{text}{errors}",
        took.as_secs_f64(),
        executable.name,
        passed + failed
    );
    if failed == 0 {
        let failure = Some(format!("{} without a failed test", output.status));
        report.add(Case {
            name: executable.name.clone(),
            took: Duration::ZERO,
            failure,
        });
    }
    Ok(())
}
