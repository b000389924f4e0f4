//! Packages of Debian and Ubuntu: which there are, installed or only unpacked.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Error, Result, process};

/// Whether this machine has apt.
pub fn here() -> bool {
    process::find("apt-get").is_some() && process::find("dpkg").is_some()
}

/// Whether this user may install packages.
pub fn may_install() -> bool {
    rustix::process::geteuid().is_root()
}

/// Installs packages, after one update of apt's lists.
pub fn install(packages: &[&str], log: &Path) -> Result<()> {
    update(log)?;
    let mut command = apt();
    command
        .args(["install", "--yes", "--no-install-recommends"])
        .args(packages);
    process::logged(&mut command, log)
}

/// The newest package that is called `prefix…suffix` with a version between that starts with a digit.
///
/// A machine whose lists are empty, as a fresh container's, gets one update where this user may do it.
pub fn newest(prefix: &str, suffix: &str, log: &Path) -> Result<Option<String>> {
    let found = known(prefix, suffix)?;
    if found.is_some() || !may_install() {
        return Ok(found);
    }
    update(log)?;
    known(prefix, suffix)
}

/// What identifies the exact version of packages: the file names in the archive.
pub fn identity(packages: &[String]) -> Result<String> {
    process::capture(
        Command::new("apt-cache")
            .args(["show", "--no-all-versions"])
            .args(packages),
    )
    .map(|text| {
        text.lines()
            .filter(|line| line.starts_with("Filename:"))
            .collect::<Vec<_>>()
            .join("\n")
    })
}

/// Downloads packages and unpacks them under a directory, installing nothing.
pub fn unpack(packages: &[String], into: &Path, log: &Path) -> Result<()> {
    let parcels = into.join(".packages");
    std::fs::create_dir_all(&parcels).map_err(Error::file("create", &parcels))?;
    let download = || process::logged(apt().arg("download").args(packages).current_dir(&parcels), log);
    if let Err(first) = download() {
        // The archive has moved on since the last update.
        if !may_install() {
            return Err(first);
        }
        update(log)?;
        download()?;
    }
    for parcel in files(&parcels)? {
        process::run(Command::new("dpkg").arg("-x").arg(&parcel).arg(into))?;
    }
    std::fs::remove_dir_all(&parcels).map_err(Error::file("remove", &parcels))
}

/// The shared libraries' packages that a package depends on, directly or not.
pub fn library_packages(packages: &[&str]) -> Result<Vec<String>> {
    let mut command = Command::new("apt-cache");
    command
        .args(["depends", "--recurse", "--important", "--no-recommends"])
        .args(packages);
    let names = process::capture(&mut command)?;
    let library =
        |name: &&str| (name.starts_with("lib") || name.starts_with("zlib")) && !name.contains("perl");
    Ok(names
        .lines()
        .filter(|line| line.starts_with(char::is_alphanumeric))
        .filter(library)
        .map(Into::into)
        .collect())
}

fn known(prefix: &str, suffix: &str) -> Result<Option<String>> {
    let names = process::capture(Command::new("apt-cache").args(["pkgnames", prefix]))?;
    let version = |name: &str| -> Option<Vec<u32>> {
        let between = name.strip_prefix(prefix)?.strip_suffix(suffix)?;
        between
            .starts_with(|first: char| first.is_ascii_digit())
            .then(|| numbers(between))
    };
    Ok(names
        .lines()
        .filter_map(|name| Some((version(name)?, name)))
        .max()
        .map(|(_, name)| name.to_owned()))
}

/// The numbers in a version, which order it: 6.12.9 comes before 6.12.10.
fn numbers(version: &str) -> Vec<u32> {
    version
        .split(|mark: char| !mark.is_ascii_digit())
        .filter_map(|part| part.parse().ok())
        .collect()
}

fn update(log: &Path) -> Result<()> {
    process::logged(apt().arg("update"), log)
}

fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").arg("--quiet");
    command
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(directory).map_err(Error::file("list", directory))?;
    entries
        .map(|entry| Ok(entry.map_err(Error::file("list", directory))?.path()))
        .collect()
}

#[cfg(test)]
mod tests;
