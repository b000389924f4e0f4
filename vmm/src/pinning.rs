//! Which CPUs of the host the vCPUs may run on.

use std::io;

use memory::host::cpus::{self, CpuList};
use rustix::io::Errno;
use rustix::thread::{Pid, sched_getaffinity, sched_setaffinity};

use crate::machine::VcpuInfo;

/// A vCPU cannot be where it was asked to be.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// A CPU that cannot be used.
    #[error("cannot run vCPU {vcpu} on host CPU {cpu}: {obstacle}")]
    Obstacle {
        /// The vCPU.
        vcpu: u8,
        /// The CPU.
        cpu: u32,
        /// Why not.
        obstacle: String,
    },
    /// The kernel took fewer than asked.
    #[error("vCPU {vcpu} was asked to run on host CPUs {asked}, but the kernel allows it only {allowed}")]
    Narrowed {
        /// The vCPU.
        vcpu: u8,
        /// What was asked.
        asked: CpuList,
        /// What is in effect.
        allowed: CpuList,
    },
    /// The kernel refused.
    #[error("cannot run vCPU {vcpu} on host CPUs {asked}")]
    Kernel {
        /// The vCPU.
        vcpu: u8,
        /// What was asked.
        asked: CpuList,
        /// Its answer.
        source: io::Error,
    },
    /// A vCPU that there is not.
    #[error("there is no vCPU {vcpu}; the guest has {count}")]
    NoVcpu {
        /// What was asked.
        vcpu: u32,
        /// How many there are.
        count: usize,
    },
}

/// Whether a vCPU could run there, for all that is known.
pub fn check(vcpu: u8, asked: &CpuList) -> Result<(), PinError> {
    let found = asked.iter().find_map(|cpu| Some((cpu, cpus::obstacle(cpu)?)));
    match found {
        Some((cpu, obstacle)) => Err(PinError::Obstacle { vcpu, cpu, obstacle }),
        None => Ok(()),
    }
}

/// Has the threads of some vCPUs run there and nowhere else. All of them, or none: what was pinned before the one that fails is put
/// back.
pub fn pin<'a>(pins: impl IntoIterator<Item = (&'a VcpuInfo, &'a CpuList)>) -> Result<(), PinError> {
    let mut before = Vec::new();
    let pinned = pins.into_iter().try_for_each(|(info, asked)| {
        check(info.index, asked)?;
        let thread = thread(info);
        let set = sched_getaffinity(thread).map_err(|error| kernel(info, asked, error))?;
        before.push((thread, set));
        sched_setaffinity(thread, &asked.to_set()).map_err(|error| kernel(info, asked, error))?;
        // The kernel leaves out what it does not allow, and says nothing.
        match allowed(info) {
            Ok(allowed) if allowed == *asked => Ok(()),
            Ok(allowed) => Err(PinError::Narrowed {
                vcpu: info.index,
                asked: asked.clone(),
                allowed,
            }),
            Err(error) => Err(kernel(info, asked, error)),
        }
    });
    if pinned.is_err() {
        for (thread, set) in before {
            if let Err(error) = sched_setaffinity(thread, &set) {
                tracing::warn!("a vCPU's thread cannot go back to where it ran: {error}");
            }
        }
    }
    pinned
}

/// Where the thread of a vCPU may run now.
pub fn allowed(info: &VcpuInfo) -> Result<CpuList, Errno> {
    sched_getaffinity(thread(info)).map(CpuList::from)
}

fn thread(info: &VcpuInfo) -> Option<Pid> {
    Pid::from_raw(info.thread_id)
}

fn kernel(info: &VcpuInfo, asked: &CpuList, error: Errno) -> PinError {
    PinError::Kernel {
        vcpu: info.index,
        asked: asked.clone(),
        source: error.into(),
    }
}

#[cfg(test)]
mod tests;
