//! Tools from crates.io that the tests need, installed when they are missing.

use super::super::paths::Paths;
use super::super::{Result, build, process};

/// Programs, and the versions that this program was tried with.
const TOOLS: [(&str, &str); 2] = [("cargo-fuzz", "0.13.2"), ("cargo-deny", "0.20.2")];

/// Installs what is missing.
pub fn ensure(paths: &Paths) -> Result<()> {
    for (tool, version) in TOOLS {
        if process::find(tool).is_some() || home(tool) {
            continue;
        }
        println!("lab: installing {tool} {version} (once)");
        let mut command = build::cargo(paths);
        // Not for our target and flags, and not in our directory: it is a program of this machine.
        command
            .current_dir("/")
            .env("CARGO_TARGET_DIR", paths.lab().join("tools"));
        command.args(["install", "--locked", "--version", version, tool]);
        process::logged(&mut command, &paths.logs().join(format!("{tool}.log")))?;
    }
    Ok(())
}

/// Whether cargo finds it in its own directory.
fn home(tool: &str) -> bool {
    let home = std::env::var_os("CARGO_HOME").map(std::path::PathBuf::from);
    let home =
        home.or_else(|| std::env::var_os("HOME").map(|home| std::path::Path::new(&home).join(".cargo")));
    home.is_some_and(|home| home.join("bin").join(tool).is_file())
}
