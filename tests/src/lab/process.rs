//! Running other programs.

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

use super::{Error, Result};

/// Lines of a failed program's output that an error repeats.
const TAIL: usize = 30;

/// Runs a program on our own terminal.
pub fn run(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    finish(command, status, String::new)
}

/// Runs a program on our own terminal and returns how it ended.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    command.status().map_err(|source| Error::Start {
        command: text(command),
        source,
    })
}

/// Runs a program and returns its standard output.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| Error::Start {
            command: text(command),
            source,
        })?;
    finish(command, output.status, || {
        tail(&String::from_utf8_lossy(&output.stderr))
    })?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program with everything that it says in a file, of which an error repeats the end.
pub fn logged(command: &mut Command, log: &Path) -> Result<()> {
    let file = File::create(log).map_err(Error::file("create", log))?;
    let other = file.try_clone().map_err(Error::file("share", log))?;
    let status = status(command.stdin(Stdio::null()).stdout(file).stderr(other))?;
    finish(command, status, || {
        tail(&std::fs::read_to_string(log).unwrap_or_default())
    })
}

/// The last lines of a text, with a newline before them, or nothing.
pub fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let start = lines.len().saturating_sub(TAIL);
    lines[start..]
        .iter()
        .fold(String::new(), |all, line| all + "\n    " + line)
}

/// Where a program lies, looked for in PATH and in the places of system programs.
pub fn find(name: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/bin", "/usr/bin", "/sbin", "/usr/sbin"].map(Into::into))
        .map(|directory| directory.join(name))
        .find(|file| file.is_file())
}

fn finish(command: &Command, status: ExitStatus, output: impl FnOnce() -> String) -> Result<()> {
    if status.success() {
        Ok(())
    } else {
        Err(Error::Command {
            command: text(command),
            status,
            output: output(),
        })
    }
}

fn text(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
