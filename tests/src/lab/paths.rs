//! Where things lie on the machine that runs the lab.

use std::path::{Path, PathBuf};

use super::{Error, Result};

/// The target for which everything is built; `.cargo/config.toml` says the same.
pub const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The places of one checkout.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The workspace.
    pub root: PathBuf,
    /// Cargo's target directory.
    pub target: PathBuf,
}

impl Paths {
    /// The places of the checkout from which this program was built.
    pub fn new() -> Result<Paths> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = package.parent().unwrap_or(package).to_owned();
        let target = match std::env::var_os("CARGO_TARGET_DIR") {
            Some(target) => std::path::absolute(target).map_err(Error::file("find", Path::new(".")))?,
            None => root.join("target"),
        };
        let paths = Paths { root, target };
        for directory in [paths.lab(), paths.logs()] {
            std::fs::create_dir_all(&directory).map_err(Error::file("create", &directory))?;
        }
        Ok(paths)
    }

    /// The lab's own part of the target directory: what is expensive to make and may be deleted.
    pub fn lab(&self) -> PathBuf {
        self.target.join("lab")
    }

    /// What programs and lab hosts said.
    pub fn logs(&self) -> PathBuf {
        self.lab().join("logs")
    }

    /// A program built for release.
    pub fn release(&self, name: &str) -> PathBuf {
        self.target.join(TARGET).join("release").join(name)
    }

    /// A file of `resources/`.
    pub fn resource(&self, name: &str) -> PathBuf {
        self.root.join("resources").join(name)
    }
}
