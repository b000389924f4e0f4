//! The tests with real guests: each test program gets a lab host of its own, and several lab hosts run at a time.
//!
//! An emulated lab host is not above suspicion: now and then its kernel dies of a race of the emulator, or a guest loses its
//! mind, the more often the more else the machine has to do. There what failed is tried once more in a new host with nothing
//! beside it, and what passes only then is told at the end.

use std::io::{self, Write};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::super::choice::Place;
use super::super::host::{self, Outcome, Streams};
use super::super::tiny::Tiny;
use super::super::workshop::Workshop;
use super::super::{Error, Result, distribution, process, python, qemu};
use super::Selection;
use super::libtest::{self, Verdict};
use super::report::{self, Case, Report};
use super::unit::{Executable, TIMES, TIMES_ENVIRONMENT};
use crate::job::{Job, PROGRAMS};

/// How long one test program may take, and in a long run.
const PATIENCE: Duration = Duration::from_secs(420);
const LONG_PATIENCE: Duration = Duration::from_secs(3600);
/// Test programs that make or check images of disks.
const IMAGES_WANTED_BY: [&str; 3] = ["devices", "readme", DISTRIBUTION_WANTED_BY];
/// The test program that boots a distribution from its disk.
const DISTRIBUTION_WANTED_BY: &str = "distribution";
/// Names of tests that only a long run runs begin with this.
const LONG: &str = "long_";
/// With more failures than this in one program, it was not the emulator.
const FLUKES: usize = 2;

/// Runs the tests that are ignored on this machine, as many lab hosts at a time as there is room for, and then once more what an
/// emulator may have failed, with one lab host at a time.
pub fn run(
    workshop: &Workshop,
    executables: &[Executable],
    selection: &Selection,
    report: &mut Report,
) -> Result<()> {
    let tiny = workshop.tiny()?;
    let mut programs = Vec::new();
    for executable in executables {
        let filter = selection
            .filter
            .as_deref()
            .filter(|filter| !executable.name.contains(filter));
        let tests = tests(executable, filter, selection.long)?;
        if !tests.is_empty() {
            programs.push((executable, tests));
        }
    }
    // What has most tests takes longest, more or less: it had better not begin last.
    programs.sort_by_key(|(_, tests)| std::cmp::Reverse(tests.len()));
    let abreast = host::abreast().min(programs.len());
    let next = Mutex::new(programs.iter());
    let serve = || -> Result<Vec<_>> {
        let mut all = Vec::new();
        loop {
            let program = next.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((executable, tests)) = program else {
                return Ok(all);
            };
            let cases = run_one(workshop, &tiny, executable, tests, selection.long)?;
            all.push((executable, tests, cases));
        }
    };
    let results: Vec<_> = thread::scope(|scope| {
        let servers: Vec<_> = (0..abreast).map(|_| scope.spawn(serve)).collect();
        servers.into_iter().map(thread::ScopedJoinHandle::join).collect()
    });
    let mut again = Vec::new();
    for served in results {
        let served = served.map_err(|_| Error::Failed("running a lab host panicked".into()))??;
        for (executable, tests, cases) in served {
            let (failed, mut told): (Vec<Case>, Vec<Case>) =
                cases.into_iter().partition(|case| case.failure.is_some());
            if (1..=FLUKES).contains(&failed.len()) && workshop.choice.place == Place::LabTcg {
                again.push((executable, remaining(&executable.name, tests, &told), failed));
            } else {
                told.extend(failed);
            }
            told.into_iter().for_each(|case| report.add_quietly(case));
        }
    }
    for (executable, tests, failed) in again {
        println!("{}: once more, in a new lab host", tests.join(", "));
        let cases = run_one(workshop, &tiny, executable, &tests, selection.long)?;
        cases.into_iter().for_each(|case| report.add_quietly(case));
        for Case { name, .. } in failed {
            report.note(format!("SECOND TRY: {name} failed once in the emulated lab host"));
        }
    }
    Ok(())
}

/// The tests of a program that have not passed: they failed, or the lab host ended before them.
fn remaining(program: &str, tests: &[String], passed: &[Case]) -> Vec<String> {
    let has_passed = |test: &&String| {
        let name = format!("{program}::{test}");
        passed.iter().any(|case| case.name == name)
    };
    tests.iter().filter(|test| !has_passed(test)).cloned().collect()
}

/// The ignored tests of a program whose names contain the filter.
fn tests(executable: &Executable, filter: Option<&str>, long: bool) -> Result<Vec<String>> {
    let list = process::capture(Command::new(&executable.path).args(["--list", "--ignored"]))?;
    let names = list.lines().filter_map(|line| line.strip_suffix(": test"));
    let is_long = |name: &str| {
        name.rsplit("::")
            .next()
            .is_some_and(|name| name.starts_with(LONG))
    };
    let chosen = names.filter(|name| filter.is_none_or(|filter| name.contains(filter)));
    Ok(chosen
        .filter(|name| long || !is_long(name))
        .map(str::to_owned)
        .collect())
}

fn run_one(
    workshop: &Workshop,
    tiny: &Tiny,
    executable: &Executable,
    tests: &[String],
    long: bool,
) -> Result<Vec<Case>> {
    let program = executable.path.file_name().unwrap_or_default().to_string_lossy();
    let mut command = vec![
        format!("{PROGRAMS}/{program}"),
        "--ignored".into(),
        "--exact".into(),
        "--test-threads=1".into(),
    ];
    command.extend(TIMES.map(str::to_owned));
    command.extend(tests.iter().cloned());
    let environment = [TIMES_ENVIRONMENT, ("RUST_BACKTRACE", "1")];
    let job = Job {
        command,
        environment: environment
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .to_vec(),
        directory: "/tmp".into(),
        terminal: None,
    };
    let mut contents = workshop.contents(job, Some(tiny));
    contents.program(&executable.path);
    python::add(&mut contents, &executable.name, &workshop.paths)?;
    let name = executable.name.rsplit("::").next().unwrap_or_default();
    if IMAGES_WANTED_BY.contains(&name) {
        qemu::add_images(&mut contents)?;
    }
    if name == DISTRIBUTION_WANTED_BY {
        distribution::add(&mut contents, &workshop.paths)?;
    }

    let start = Instant::now();
    let listener = Listener::new(&executable.name);
    let errors = Listener::new(&executable.name);
    let streams = Streams {
        input: None,
        output: Box::new(listener.clone()),
        error: Box::new(errors.clone()),
    };
    let patience = if long { LONG_PATIENCE } else { PATIENCE };
    let log = format!("guests-{}", executable.name.replace("::", "-"));
    let outcome = workshop.run(&log, &contents, streams, Some(patience))?;

    let mut heard = listener.take();
    let failed = heard.cases.iter().filter(|case| case.failure.is_some()).count();
    let complete = heard.cases.len() == tests.len();
    if outcome == Outcome::Exit(0) && complete {
        return Ok(heard.cases);
    }
    println!("{}\n{}", heard.text, errors.take().text);
    if failed == 0 || !complete {
        let test = libtest::unfinished(&heard.text).unwrap_or("the end");
        let failure = match outcome {
            Outcome::TimedOut(last) => {
                format!("more than {patience:?}, in {test}; the lab host said last:{last}")
            }
            Outcome::Lost(last) => format!("the lab host ended in {test}; it said last:{last}"),
            Outcome::Exit(_) | Outcome::Signal(_) => format!("ended in {test}: {outcome:?}"),
        };
        let case = Case {
            name: executable.name.clone(),
            took: start.elapsed(),
            failure: Some(failure),
        };
        println!("{}", report::told(&case));
        heard.cases.push(case);
    }
    Ok(heard.cases)
}

/// Takes a test program's output, tells each result as it comes, and keeps everything.
#[derive(Clone, Debug)]
struct Listener {
    prefix: String,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    text: String,
    partial: Vec<u8>,
    cases: Vec<Case>,
}

impl Listener {
    fn new(prefix: &str) -> Listener {
        Listener {
            prefix: prefix.to_owned(),
            heard: Arc::default(),
        }
    }

    fn take(&self) -> Heard {
        let mut heard = std::mem::take(&mut *self.heard.lock().unwrap_or_else(PoisonError::into_inner));
        let rest = std::mem::take(&mut heard.partial);
        heard.text.push_str(&String::from_utf8_lossy(&rest));
        heard
    }
}

impl Write for Listener {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        for byte in bytes {
            heard.partial.push(*byte);
            if *byte != b'\n' {
                continue;
            }
            let line = std::mem::take(&mut heard.partial);
            let line = String::from_utf8_lossy(&line).into_owned();
            heard.text.push_str(&line);
            let Some(test) = libtest::parse(&line).filter(|test| test.verdict != Verdict::Ignored) else {
                continue;
            };
            let failure = (test.verdict == Verdict::Failed).then(String::new);
            let name = format!("{}::{}", self.prefix, test.name);
            let case = Case {
                name,
                took: test.took.unwrap_or_default(),
                failure,
            };
            println!("{}", report::line(&case));
            heard.cases.push(case);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
