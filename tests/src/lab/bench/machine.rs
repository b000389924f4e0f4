//! The two contestants and the guests that they run: the same kernel, initramfs, memory and devices.

use std::fmt;
use std::process::ChildStdin;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::INITRAMFS;
use super::boot::pinned;
use super::cpu::Threads;
use crate::harness::agent::Agent;
use crate::harness::backing::{Backing, ID};
use crate::harness::balloon;
use crate::harness::qmp::Qmp;
use crate::harness::vm::{COMMAND_LINE, Launch, Vm};
use crate::harness::{Error, Result, names};
use crate::lab::qemu;

/// How many pairs of measurements stand behind a figure.
pub const PAIRS: usize = 7;

/// How long a balloon may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// The shortest and the longest time between two looks at a balloon.
const GLANCES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(500)];

/// A virtual machine monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vmm {
    /// Ours.
    Ballast,
    /// QEMU with its smallest machine, `microvm`, with PCI for the balloon.
    Qemu,
}

/// Both, in the order in which a pair is measured.
pub const BOTH: [Vmm; 2] = [Vmm::Ballast, Vmm::Qemu];

/// A guest to be.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Its RAM in MiB.
    pub mebibytes: u64,
    /// How many processors it has.
    pub processors: u32,
    /// What its RAM is.
    pub backing: Backing,
    /// More properties of its balloon, as in `,free-page-reporting=on`.
    pub balloon: &'static str,
}

impl Vmm {
    /// How to start a guest: the program and its machine.
    pub fn bare(self) -> Launch {
        match self {
            Vmm::Ballast => Launch::new(),
            Vmm::Qemu => Launch::other(qemu::PROGRAM)
                .line("-M microvm,pcie=on,x-option-roms=off,rtc=off,pic=off,pit=off")
                .line(
                    "-accel kvm -cpu host -nodefaults -no-user-config -display none -no-reboot -serial stdio",
                )
                .args(["-L", qemu::FIRMWARE_PLACE]),
        }
    }

    /// How to start a guest with a distribution's kernel and our initramfs: it has drivers for what the tiny kernel has none.
    pub fn stock(self) -> Launch {
        self.boots(names::STOCK, names::GUEST, COMMAND_LINE)
    }

    /// How to start a guest with this kernel, this initramfs and this command line for the kernel.
    pub fn boots(self, kernel: &str, initramfs: &str, command_line: &str) -> Launch {
        self.bare()
            .args(["-kernel", kernel, "-initrd", initramfs])
            .args(["-append", command_line])
    }

    /// How to start this guest; a kernel and an initramfs come with it.
    pub fn launch(self, machine: &Machine) -> Launch {
        self.launch_with(machine, "")
    }

    /// The same with more properties of the memory's backend.
    pub fn launch_with(self, machine: &Machine, properties: &str) -> Launch {
        let object = format!(
            "{},id={ID},size={}M{properties}",
            machine.backing.object(),
            machine.mebibytes
        );
        let balloon = format!("{}{}", balloon::DEVICE[1], machine.balloon);
        self.boots(names::TINY_ELF, INITRAMFS, COMMAND_LINE)
            .args([
                "-m",
                &format!("{}M", machine.mebibytes),
                "-smp",
                &machine.processors.to_string(),
            ])
            .args(["-object", &object, "-machine", &format!("memory-backend={ID}")])
            .args([balloon::DEVICE[0], &balloon])
    }

    /// Boots this guest and waits for its agent. With one processor, its VMM gets one too: threads that wait for those on
    /// other processors would cost as much time as these take to be run, and in an emulated host that is nobody's work.
    pub fn boot(self, machine: &Machine) -> Result<Guest> {
        Guest::boot(self.launch(machine), machine.processors)
    }
}

impl fmt::Display for Vmm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Vmm::Ballast => "Ballast",
            Vmm::Qemu => "QEMU",
        })
    }
}

/// A guest that is up.
#[derive(Debug)]
pub struct Guest {
    /// Its VMM.
    pub vm: Vm,
    /// Its agent.
    pub agent: Agent<ChildStdin>,
    /// The control of its VMM.
    pub qmp: Qmp,
    /// The threads of its VMM.
    pub threads: Threads,
}

impl Guest {
    /// Boots a guest with so many processors.
    pub fn boot(launch: Launch, processors: u32) -> Result<Guest> {
        let launch = launch.qmp();
        let mut vm = if processors == 1 {
            pinned(|| launch.start())??
        } else {
            launch.start()?
        };
        let agent = vm.boot()?;
        let mut qmp = vm.qmp()?;
        let threads = Threads::new(vm.pid(), vcpus(&mut qmp)?);
        Ok(Guest {
            vm,
            agent,
            qmp,
            threads,
        })
    }

    /// Has the guest write this much memory and free it again, so that the host holds it.
    pub fn touch(&mut self, mebibytes: u64) -> Result<()> {
        self.agent.touch(usize::try_from(mebibytes).unwrap_or(usize::MAX))
    }

    /// Sets the balloon's target, in MiB, and waits until the guest is there. The balloon is asked seldom, and the more often
    /// the nearer it is: answers are work of the VMM too.
    pub fn reach(&mut self, mebibytes: u64) -> Result<()> {
        let target = mebibytes << 20;
        let way = |actual: u64| u32::try_from(actual.abs_diff(target) >> 12).unwrap_or(u32::MAX);
        let all = way(balloon::actual(&mut self.qmp)?);
        balloon::ask(&mut self.qmp, target)?;
        let start = Instant::now();
        loop {
            let actual = balloon::actual(&mut self.qmp)?;
            let left = way(actual);
            if left == 0 {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                return Err(Error::TimedOut {
                    what: format!("balloon of process {} at {mebibytes} MiB", self.vm.pid()),
                    patience: PATIENCE,
                    seen: format!("{} MiB", actual >> 20),
                });
            }
            let done = all.saturating_sub(left).max(1);
            let rest = start.elapsed().mul_f64(f64::from(left) / f64::from(done));
            thread::sleep((rest / 2).clamp(GLANCES[0], GLANCES[1]));
        }
    }
}

/// The thread of each vCPU.
fn vcpus(qmp: &mut Qmp) -> Result<Vec<u32>> {
    let answer = qmp.command("query-cpus-fast", Value::Null)?;
    let ids = answer.as_array().into_iter().flatten().map(|cpu| {
        let id = cpu["thread-id"].as_u64().and_then(|id| u32::try_from(id).ok());
        id.ok_or_else(|| Error::Connection(format!("no thread-id in {answer}")))
    });
    ids.collect()
}
