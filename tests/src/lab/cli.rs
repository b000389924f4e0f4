//! The command line of `cargo lab`.

use std::ffi::OsString;

use super::bench::{Selection, populate};
use super::{Error, Result};

/// What `cargo lab help` says.
pub const HELP: &str = "\
usage: cargo lab COMMAND

  demo                      boot a guest, take 60 % of its memory, give it back, check every page
  test [--long] [FILTER]    every test; with FILTER only the lab tests whose names contain it
  bench [NAME...] [--check] benchmarks beside QEMU: a table, and target/lab/bench.json; exit code 3 with --check when a
                            budget is missed; names: overhead, boot, start, prealloc, balloon, qmp, blk, net, hugepages
  run -- ARGS               `ballast run ARGS` in the lab host; files of this machine that ARGS name go with it,
                            and /lab has vmlinux-tiny, bzImage-tiny, vmlinuz-debian and guest.cpio, whose
                            guest runs the commands that are typed once it says `agent ready`
  shell [-- COMMAND...]     a shell, or one command, in the lab host
  help                      this text

Guests run on this machine's KVM where it is usable, else in an emulated host; BALLAST_LAB=direct|kvm|tcg decides
instead. What is built and fetched lies under target/lab and may be deleted.
";

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Show what the balloon does.
    Demo,
    /// Run the tests.
    Test {
        /// With those that take long.
        long: bool,
        /// Only lab tests whose names contain this.
        filter: Option<String>,
    },
    /// Measure.
    Bench(Selection),
    /// Measure one area on the machine where guests run; the lab itself calls this.
    BenchHere(String),
    /// The loop that preallocation is measured against.
    BenchPopulate(Vec<String>),
    /// Run Ballast in the lab host.
    Run(Vec<String>),
    /// Run a command, else a shell, in the lab host.
    Shell(Vec<String>),
    /// The demo on the machine where guests run; the lab itself calls this.
    DemoHere,
    /// Say what there is.
    Help,
}

impl Request {
    /// Reads the words after `cargo lab`.
    pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Request> {
        let words = words
            .into_iter()
            .map(OsString::into_string)
            .collect::<std::result::Result<Vec<_>, _>>();
        let words = words.map_err(|word| Error::Usage(format!("{} is not UTF-8", word.display())))?;
        let Some((command, rest)) = words.split_first() else {
            return Err(Error::Usage(format!("no command\n{HELP}")));
        };
        match command.as_str() {
            "demo" => none_left(rest, Request::Demo),
            "demo-here" => none_left(rest, Request::DemoHere),
            "test" => test(rest),
            "bench" => bench(rest),
            "bench-here" => match rest {
                [name] => Ok(Request::BenchHere(name.clone())),
                _ => Err(Error::Usage("bench-here takes one name".into())),
            },
            populate::COMMAND => Ok(Request::BenchPopulate(rest.to_vec())),
            "run" => Ok(Request::Run(after_dashes(rest)?)),
            "shell" => Ok(Request::Shell(after_dashes(rest)?)),
            "help" | "--help" | "-h" => Ok(Request::Help),
            other => Err(Error::Usage(format!("no such command: {other}\n{HELP}"))),
        }
    }
}

fn none_left(rest: &[String], request: Request) -> Result<Request> {
    match rest.first() {
        None => Ok(request),
        Some(word) => Err(Error::Usage(format!("unexpected: {word}"))),
    }
}

fn test(rest: &[String]) -> Result<Request> {
    let long = rest.iter().any(|word| word == "--long");
    let mut filters = rest.iter().filter(|word| *word != "--long");
    let filter = filters.next().cloned();
    match filters
        .next()
        .or(filter.as_ref().filter(|word| word.starts_with('-')))
    {
        None => Ok(Request::Test { long, filter }),
        Some(word) => Err(Error::Usage(format!("unexpected: {word}"))),
    }
}

fn bench(rest: &[String]) -> Result<Request> {
    let (flags, names): (Vec<_>, Vec<_>) = rest.iter().cloned().partition(|word| word.starts_with('-'));
    match flags.iter().find(|word| *word != "--check") {
        Some(word) => Err(Error::Usage(format!("unexpected: {word}"))),
        None => Ok(Request::Bench(Selection {
            names,
            check: !flags.is_empty(),
        })),
    }
}

fn after_dashes(rest: &[String]) -> Result<Vec<String>> {
    match rest.split_first() {
        None => Ok(Vec::new()),
        Some((dashes, words)) if dashes == "--" => Ok(words.to_vec()),
        Some((word, _)) => Err(Error::Usage(format!(
            "unexpected: {word}; arguments come after --"
        ))),
    }
}

#[cfg(test)]
mod tests;
