//! What a guest costs the host in processor time.
//!
//! Counted is the time that the threads of the VMM were on a processor (`/proc/PID/task/TID/schedstat`, nanoseconds),
//! less the time that vCPU threads spent running the guest's own code (`guest_time` of `/proc/PID/task/TID/stat`). So a
//! device thread counts in full, and of a vCPU what KVM and the VMM do for it: exits, faults, injection. Threads that
//! end between two readings are not seen; neither VMM has such threads at work here. Both files: proc(5).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::io::Errno;

use crate::harness::{Error, Result};

/// The fraction of a second in which `stat` counts: USER_HZ, the same on every x86 Linux.
const TICK: Duration = Duration::from_millis(10);
/// The place of `guest_time` in `stat`, counted from the field after the program's name, which is the third.
const GUEST_TIME: usize = 43 - 3;

/// The threads of a VMM.
#[derive(Clone, Debug)]
pub struct Threads {
    pid: u32,
    vcpus: Vec<u32>,
}

/// Processor time since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// By threads that are no vCPUs.
    pub others: Duration,
    /// By vCPU threads, without the guest's own time.
    pub vcpus: Duration,
}

impl Spent {
    /// Both together.
    pub fn host(self) -> Duration {
        self.others + self.vcpus
    }

    /// What was spent since an earlier reading.
    pub fn since(self, earlier: Spent) -> Spent {
        Spent {
            others: self.others.saturating_sub(earlier.others),
            vcpus: self.vcpus.saturating_sub(earlier.vcpus),
        }
    }
}

impl Threads {
    /// Those of a process, of which some are vCPUs.
    pub fn new(pid: u32, vcpus: Vec<u32>) -> Threads {
        Threads { pid, vcpus }
    }

    /// Reads what they have spent.
    pub fn spent(&self) -> Result<Spent> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid));
        let mut spent = Spent::default();
        for entry in fs::read_dir(&tasks)
            .map_err(Error::file("list", &tasks))?
            .flatten()
        {
            let task = entry.path();
            let is_vcpu = |id: &u32| entry.file_name().to_string_lossy() == id.to_string();
            if self.vcpus.iter().any(is_vcpu) {
                spent.vcpus += running(&task)?.saturating_sub(guest(&task)?);
            } else if let Some(running) = unless_ended(running(&task))? {
                spent.others += running;
            }
        }
        Ok(spent)
    }
}

/// A thread may end after it was listed: ENOENT when its files are opened, ESRCH when they are read.
fn unless_ended(running: Result<Duration>) -> Result<Option<Duration>> {
    let ended = |source: &io::Error| {
        source.kind() == io::ErrorKind::NotFound || source.raw_os_error() == Some(Errno::SRCH.raw_os_error())
    };
    match running {
        Err(Error::File { source, .. }) if ended(&source) => Ok(None),
        running => running.map(Some),
    }
}

/// The first figure of `schedstat`: time on a processor.
fn running(task: &Path) -> Result<Duration> {
    let (path, text) = read(task, "schedstat")?;
    let first = text.split_whitespace().next().and_then(|word| word.parse().ok());
    first
        .map(Duration::from_nanos)
        .ok_or_else(|| missing(path, "time"))
}

fn guest(task: &Path) -> Result<Duration> {
    let (path, text) = read(task, "stat")?;
    guest_ticks(&text)
        .map(|ticks| TICK * ticks)
        .ok_or_else(|| missing(path, "guest_time"))
}

/// The program's name stands in parentheses and may hold anything, so the fields are counted from its end.
fn guest_ticks(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(GUEST_TIME)?.parse().ok()
}

fn read(task: &Path, name: &str) -> Result<(PathBuf, String)> {
    let path = task.join(name);
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    Ok((path, text))
}

fn missing(path: PathBuf, what: &str) -> Error {
    Error::Format {
        path,
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests;
