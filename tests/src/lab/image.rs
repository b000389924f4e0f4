//! The lab host's initramfs: its first program, modules, a job, and what the job needs.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::stock::Stock;
use super::{Error, Result, debian, elf, process};
use crate::job::{JOB_FILE, Job, MODULE_LIST, PROGRAMS};

/// Modules that the lab host loads.
const MODULES: [&str; 5] = ["kvm", "kvm_amd", "kvm_intel", "tun", "zram"];

/// Where shared libraries of this machine lie.
const SHARED: [&str; 5] = [
    "/usr/lib/x86_64-linux-gnu",
    "/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/lib64",
    "/usr/lib",
];

/// What goes into the image of one lab host.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The lab host's first program.
    pub init: PathBuf,
    /// Files by their place in the lab host.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// What to run.
    pub job: Job,
}

impl Contents {
    /// Adds a program to the lab's PATH.
    pub fn program(&mut self, from: &Path) {
        if let Some(name) = from.file_name() {
            self.files.push((Path::new(PROGRAMS).join(name), from.to_owned()));
        }
    }

    /// Adds a program that this machine has installed, with its libraries; where it lies here.
    pub fn installed(&mut self, name: &str) -> Result<PathBuf> {
        let program = process::find(name).ok_or_else(|| Error::Failed(format!("there is no {name}")))?;
        self.libraries(elf::libraries(&program, &SHARED.map(PathBuf::from))?)?;
        self.program(&program);
        Ok(program)
    }

    /// Adds shared libraries by name where programs of this machine look for them.
    pub fn libraries(&mut self, libraries: BTreeMap<String, PathBuf>) -> Result<()> {
        let place = if debian::here() {
            "/lib/x86_64-linux-gnu"
        } else {
            "/lib64"
        };
        for (name, library) in libraries {
            let file = fs::canonicalize(&library).map_err(Error::file("find", &library))?;
            // Programs name their loader by this path.
            let place = if name.starts_with("ld-linux") {
                "/lib64"
            } else {
                place
            };
            self.files.push((Path::new(place).join(name), file));
        }
        Ok(())
    }
}

/// Writes the image.
pub fn write(stock: &Stock, contents: &Contents, to: &Path) -> Result<()> {
    let busybox = process::find("busybox").ok_or_else(|| Error::Failed("there is no busybox".into()))?;
    let mut archive = Archive::create(to)?;
    for directory in [
        "/proc",
        "/sys",
        "/dev",
        "/tmp",
        "/run",
        "/sbin",
        "/usr/bin",
        "/usr/sbin",
        "/etc",
    ] {
        archive.directory(directory)?;
    }
    archive.copy(&contents.init, "/init")?;
    archive.copy(&busybox, "/bin/busybox")?;
    archive.symlink("busybox", "/bin/sh")?;
    archive.file("/etc/passwd", 0o644, b"root:x:0:0:root:/:/bin/sh\n")?;
    archive.file("/etc/group", 0o644, b"root:x:0:\nkvm:x:100:\n")?;

    let modules = stock.modules.closure(&MODULES)?;
    let directory = Path::new(MODULE_LIST).parent().unwrap_or(Path::new("/"));
    let list: String = modules
        .iter()
        .map(|module| format!("{}\n", module.file))
        .collect();
    archive.file(MODULE_LIST, 0o644, list.as_bytes())?;
    for module in &modules {
        archive.file(directory.join(&module.file), 0o644, &module.bytes)?;
    }

    for (place, from) in &contents.files {
        archive.copy(from, place)?;
    }
    let job = serde_json::to_vec(&contents.job).map_err(|error| Error::Failed(error.to_string()))?;
    archive.file(JOB_FILE, 0o644, &job)?;
    archive.finish()
}
