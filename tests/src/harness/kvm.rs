//! What the host's KVM counts for a guest (debugfs, `kvm/PID-FD`).

use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount};

use super::{Error, Result};

const DEBUGFS: &str = "/sys/kernel/debug";

/// How often the vCPUs of a process left the guest; 0 means that none of them ever ran.
pub fn exits(pid: u32) -> Result<u64> {
    figure(pid, "exits")
}

fn figure(pid: u32, name: &str) -> Result<u64> {
    let path = directory(pid)?.join(name);
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    text.trim().parse().map_err(|_| Error::Format {
        path,
        what: "number".into(),
    })
}

fn directory(pid: u32) -> Result<PathBuf> {
    match mount("debugfs", DEBUGFS, "debugfs", MountFlags::empty(), None) {
        // Mounted before.
        Ok(()) | Err(Errno::BUSY) => {}
        Err(error) => return Err(Error::file("mount", Path::new(DEBUGFS))(error.into())),
    }
    let path = Path::new(DEBUGFS).join("kvm");
    let prefix = format!("{pid}-");
    let entries = fs::read_dir(&path).map_err(Error::file("list", &path))?;
    let found = entries
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
    found.map(|entry| entry.path()).ok_or_else(|| Error::Format {
        path,
        what: format!("VM of process {pid}"),
    })
}
