//! Building our own programs with cargo.

use std::path::PathBuf;
use std::process::Command;

use super::paths::Paths;
use super::{Result, process};

/// A `cargo` command in the workspace, by the cargo that runs us.
pub fn cargo(paths: &Paths) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .current_dir(&paths.root)
        .env("CARGO_TARGET_DIR", &paths.target);
    command
}

/// Our programs as they go into guests and lab hosts.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The VMM.
    pub ballast: PathBuf,
    /// This program, for what it does inside the lab host.
    pub lab: PathBuf,
    /// The lab host's first program.
    pub init: PathBuf,
    /// The guest's first program.
    pub agent: PathBuf,
}

/// Builds them for release.
pub fn programs(paths: &Paths) -> Result<Programs> {
    let mut command = cargo(paths);
    command.args([
        "build",
        "--quiet",
        "--release",
        "--locked",
        "--package",
        "vmm",
        "--package",
        "tests",
        "--bins",
    ]);
    process::run(&mut command)?;
    Ok(Programs {
        ballast: paths.release("ballast"),
        lab: paths.release("lab"),
        init: paths.release("lab-init"),
        agent: paths.release("guest-agent"),
    })
}
