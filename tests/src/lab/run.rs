//! `cargo lab run` and `cargo lab shell`.

use std::path::{Path, PathBuf};

use super::host::Outcome;
use super::paths::Paths;
use super::setup::Purpose;
use super::workshop::{self, Workshop};
use super::{Error, Result};

/// Runs `ballast run` in a lab host and returns its exit code.
pub fn ballast(arguments: &[String]) -> Result<u8> {
    let mut command = vec!["/lab/bin/ballast".to_owned(), "run".to_owned()];
    command.extend(arguments.iter().cloned());
    attached("run", command, &named_files(arguments))
}

/// Runs a command, a shell if none is given, in a lab host and returns its exit code.
pub fn shell(command: &[String]) -> Result<u8> {
    let command = if command.is_empty() {
        vec!["/bin/sh".to_owned()]
    } else {
        command.to_vec()
    };
    attached("shell", command.clone(), &named_files(&command))
}

fn attached(name: &str, command: Vec<String>, extra: &[PathBuf]) -> Result<u8> {
    let paths = Paths::new()?;
    // Standard output is the guest's.
    let choice = workshop::choose(&paths, Purpose::Tests, false, |choice| eprintln!("{choice}"))?;
    let outcome = Workshop::new(paths, choice)?.attach(name, command, extra)?;
    match &outcome {
        Outcome::Exit(_) | Outcome::Signal(_) => Ok(outcome.code()),
        Outcome::TimedOut(last) | Outcome::Lost(last) => Err(Error::Failed(format!(
            "the lab host ended before the command{last}"
        ))),
    }
}

/// Places that the lab host fills itself.
const ITS_OWN: [&str; 8] = [
    "/bin",
    "/dev",
    "/lab",
    "/proc",
    "/sbin",
    "/sys",
    "/usr/bin",
    "/usr/sbin",
];

/// The files of this machine that arguments name, alone or as the value of an option: they go into the lab host.
fn named_files(arguments: &[String]) -> Vec<PathBuf> {
    let words = arguments
        .iter()
        .flat_map(|argument| argument.split([',', '=', ':']));
    let elsewhere = |path: &PathBuf| !ITS_OWN.iter().any(|place| path.starts_with(place));
    words
        .filter(|word| Path::new(word).is_file())
        .filter_map(|word| std::path::absolute(word).ok())
        .filter(elsewhere)
        .collect()
}

#[cfg(test)]
mod tests;
