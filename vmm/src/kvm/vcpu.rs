//! One vCPU: runs until something has to be done about it, and says what.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use devices::action::Action;
use devices::bus::Bus;
use kvm_bindings::{CpuId, KVM_EXIT_IO_OUT};
use kvm_ioctls::{VcpuExit, VcpuFd};
use memory::ram::Ram;
use vm_memory::GuestAddress;

use super::stats::FaultStats;
use super::vm::Vm;
use super::{cpuid, kick::ExitFlag, machine_check, setup};
use crate::host::bus_error;
use crate::starvation::broken::{Action as BrokenAction, BrokenMemory};
use lost::Lost;

mod lost;

/// Where a guest's accesses outside its memory go.
#[derive(Clone, Debug)]
pub struct Buses {
    /// Port I/O.
    pub ports: Arc<Bus>,
    /// Memory-mapped I/O.
    pub mmio: Arc<Bus>,
}

/// Why a vCPU is out of the guest.
#[derive(Debug)]
pub enum Exit {
    /// Served; run again.
    Continue,
    /// A kick or another signal: look at the gate.
    Interrupted,
    /// A device asks for something.
    Action(Action),
    /// A triple fault: what a processor does about it is a reset.
    TripleFault,
    /// The host could not supply a page of RAM; at this address where KVM told it.
    MissingMemory(Option<GuestAddress>),
    /// The guest touched a page whose memory is broken, and was told so if it could be. Of a page that it touches again and
    /// again only the first time.
    BrokenMemory(BrokenMemory),
    /// It cannot go on.
    Failed(String),
}

/// A vCPU of one VM.
#[derive(Debug)]
pub struct Vcpu {
    fd: VcpuFd,
    index: u8,
    buses: Buses,
    ram: Ram,
    lost: Option<Lost>,
    /// Host address of a broken page that the guest touched and was not told of yet.
    broken: Option<u64>,
    /// Broken pages that it was told of. Few.
    told: BTreeSet<GuestAddress>,
    amd: bool,
}

impl Vcpu {
    /// Creates vCPU `index` with its APIC id and CPUID and the state of a processor after firmware.
    pub fn new(
        vm: &Vm,
        index: u8,
        apic_id: u32,
        cpuid: &CpuId,
        buses: Buses,
        ram: Ram,
    ) -> Result<Vcpu, Error> {
        let fd = vm
            .fd()
            .create_vcpu(u64::from(apic_id))
            .map_err(|source| Error::Create { index, source })?;
        fd.set_cpuid2(cpuid)
            .map_err(|source| Error::Cpuid { index, source })?;
        setup::common(&fd)?;
        let amd = cpuid::is_amd(cpuid.as_slice());
        if let Err(error) = machine_check::set_up(&fd, amd) {
            // Then a guest that touches broken memory is reset.
            tracing::debug!("vCPU {index}: no machine checks: {error}");
        }
        Ok(Vcpu {
            fd,
            index,
            buses,
            ram,
            lost: None,
            broken: None,
            told: BTreeSet::new(),
            amd,
        })
    }

    /// Makes this the vCPU that starts the kernel.
    pub fn start_at(&self, entry: &boot::Entry) -> Result<(), setup::Error> {
        setup::entry(&self.fd, entry)
    }

    /// Index of this vCPU; its APIC id too.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// The flag by which other threads get this vCPU out of the guest.
    pub fn exit_flag(&self, vm: &Vm) -> Result<ExitFlag, Error> {
        let index = self.index;
        ExitFlag::map(&self.fd, vm.fd().run_size()).map_err(|source| Error::Share { index, source })
    }

    /// Its page-fault counters; to be asked for before it runs.
    ///
    /// # Errors
    /// When this KVM does not have them.
    pub fn fault_stats(&self) -> io::Result<FaultStats> {
        FaultStats::new(&self.fd)
    }

    /// Tells the guest's clock that it stood still (KVM_KVMCLOCK_CTRL), so that its watchdogs do not bark.
    pub fn clock_stopped(&self) {
        // EINVAL: the guest has not set up a kvmclock, so there is nothing to tell.
        if let Err(error) = self.fd.kvmclock_ctrl()
            && error.errno() != libc::EINVAL
        {
            tracing::debug!("vCPU {}: KVM_KVMCLOCK_CTRL: {error}", self.index);
        }
    }

    /// Takes back the request to leave the guest.
    pub fn clear_exit_request(&mut self) {
        self.fd.set_kvm_immediate_exit(0);
    }

    /// Runs the guest until the next exit and serves it.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "most exits of KVM belong to other processors"
    )]
    pub fn run(&mut self) -> Exit {
        if let Some(lost) = self.lost.take()
            && let Err(error) = self.repeat(&lost)
        {
            tracing::debug!(
                "vCPU {}: {:#x} is still missing: {error}",
                self.index,
                lost.address.0
            );
            let address = lost.address;
            self.lost = Some(lost);
            return Exit::MissingMemory(Some(address));
        }
        if let Some(host_address) = self.broken.take() {
            return self.tell_of_broken(host_address);
        }
        let fd = &mut self.fd;
        let (result, broken) = bus_error::in_guest(move || fd.run());
        self.broken = broken;
        let exit = match result {
            Ok(exit) => exit,
            Err(error) => return self.run_error(error.errno()),
        };
        match exit {
            VcpuExit::IoIn(..) | VcpuExit::IoOut(..) => self.port_io(),
            VcpuExit::MmioRead(address, data) if self.ram.region_at(GuestAddress(address)).is_none() => {
                self.buses.mmio.read(address, data);
                Exit::Continue
            }
            VcpuExit::MmioWrite(address, data) if self.ram.region_at(GuestAddress(address)).is_none() => {
                served(self.buses.mmio.write(address, data))
            }
            VcpuExit::MmioRead(address, data) => {
                let lost = Lost::read(GuestAddress(address), data.len());
                self.missing(lost)
            }
            VcpuExit::MmioWrite(address, data) => {
                let lost = Lost::write(GuestAddress(address), data);
                self.missing(lost)
            }
            VcpuExit::MemoryFault { gpa, .. } => Exit::MissingMemory(Some(GuestAddress(gpa))),
            // The registers say nothing about it: on AMD, KVM has reset them.
            VcpuExit::Shutdown => Exit::TripleFault,
            VcpuExit::Intr | VcpuExit::IrqWindowOpen | VcpuExit::SetTpr => Exit::Continue,
            VcpuExit::InternalError => Exit::Failed(self.internal_error()),
            VcpuExit::FailEntry(reason, cpu) => Exit::Failed(format!(
                "the processor refused to enter the guest: reason {reason:#x} on CPU {cpu}"
            )),
            other => Exit::Failed(format!("KVM returned with an unexpected exit: {other:?}")),
        }
    }

    fn run_error(&self, errno: i32) -> Exit {
        match errno {
            libc::EINTR | libc::EAGAIN => Exit::Interrupted,
            libc::EFAULT => Exit::MissingMemory(None),
            _ => Exit::Failed(format!("KVM_RUN failed: {}", io::Error::from_raw_os_error(errno))),
        }
    }

    /// Serves a port access. A string instruction hands over several items for the same port at once; each is an access
    /// of its own to the device.
    fn port_io(&mut self) -> Exit {
        let run = self.fd.get_kvm_run();
        // SAFETY: the exit reason was KVM_EXIT_IO, for which KVM fills this member of the union.
        let io = unsafe { run.__bindgen_anon_1.io };
        let size = usize::from(io.size).max(1);
        let Ok(count) = usize::try_from(io.count) else {
            return Exit::Continue;
        };
        let Ok(offset) = usize::try_from(io.data_offset) else {
            return Exit::Continue;
        };
        // SAFETY: KVM puts size * count bytes at data_offset inside the mapping that starts with kvm_run
        // (Documentation/virt/kvm/api.rst, 5), and the vCPU does not run while this borrow of it lasts.
        let data = unsafe {
            let start = std::ptr::from_mut(run).cast::<u8>().add(offset);
            std::slice::from_raw_parts_mut(start, size * count)
        };
        let port = u64::from(io.port);
        for item in data.chunks_exact_mut(size) {
            if u32::from(io.direction) == KVM_EXIT_IO_OUT {
                let action = self.buses.ports.write(port, item);
                if action != Action::None {
                    return Exit::Action(action);
                }
            } else {
                self.buses.ports.read(port, item);
            }
        }
        Exit::Continue
    }

    /// The guest touched a broken page of the host: it gets a machine check, or what a processor does without one.
    fn tell_of_broken(&mut self, host_address: u64) -> Exit {
        let Some((address, _)) = self.ram.locate(host_address) else {
            return Exit::Failed(format!(
                "the page at host address {host_address:#x}, which is no guest memory, is broken"
            ));
        };
        let (action, recursive) = match machine_check::inject(&self.fd, self.amd, address) {
            Ok(machine_check::Told::MachineCheck) => (BrokenAction::Inject, false),
            Ok(machine_check::Told::Shutdown { recursive }) => (BrokenAction::Reset, recursive),
            Err(error) => {
                tracing::warn!("vCPU {}: no machine check: {error}", self.index);
                (BrokenAction::Reset, false)
            }
        };
        if !self.told.insert(address) && action == BrokenAction::Inject {
            return Exit::Continue;
        }
        Exit::BrokenMemory(BrokenMemory::touched_by_vcpu(
            self.index, address, action, recursive,
        ))
    }

    /// An access to RAM that came out as MMIO.
    fn missing(&mut self, lost: Lost) -> Exit {
        let address = lost.address;
        self.lost = Some(lost);
        Exit::MissingMemory(Some(address))
    }

    /// Makes up for an access whose page was missing; fails where it still is.
    fn repeat(&mut self, lost: &Lost) -> io::Result<()> {
        let value = lost.repeat(&self.ram)?;
        if lost.is_read() {
            // The last exit was KVM_EXIT_MMIO and the vCPU has not run since: KVM takes the value read from here.
            self.fd.get_kvm_run().__bindgen_anon_1.mmio.data = value;
        }
        Ok(())
    }

    /// Explains KVM_EXIT_INTERNAL_ERROR in terms of what a user can do.
    fn internal_error(&mut self) -> String {
        let run = self.fd.get_kvm_run();
        // SAFETY: the exit reason was KVM_EXIT_INTERNAL_ERROR, for which KVM fills this member of the union.
        let internal = unsafe { run.__bindgen_anon_1.internal };
        let rip = self
            .fd
            .get_regs()
            .map_or_else(|_| "unknown".to_owned(), |regs| format!("{:#x}", regs.rip));
        if internal.suberror != kvm_bindings::KVM_INTERNAL_ERROR_EMULATION {
            return format!(
                "KVM gave up with internal error {} at RIP {rip}",
                internal.suberror
            );
        }
        // Data: flags, then the number of bytes and the bytes themselves (struct kvm_run, emulation_failure).
        let bytes: Vec<u8> = internal.data[1..4]
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .collect();
        let length = usize::from(bytes[0]).min(15);
        let has_bytes = internal.ndata >= 2 && internal.data[0] & 1 != 0;
        let code = if has_bytes { &bytes[1..=length] } else { &[][..] };
        let code: Vec<String> = code.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "this KVM cannot run this guest kernel: it failed to emulate the instruction at RIP {rip} [{}]",
            code.join(" ")
        )
    }
}

fn served(action: Action) -> Exit {
    if action == Action::None {
        Exit::Continue
    } else {
        Exit::Action(action)
    }
}

/// Why a vCPU could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM refused to create it.
    #[error("KVM refused to create vCPU {index}")]
    Create {
        /// Which one.
        index: u8,
        /// Its answer.
        source: kvm_ioctls::Error,
    },
    /// KVM refused its CPUID.
    #[error("KVM refused the CPUID of vCPU {index}")]
    Cpuid {
        /// Which one.
        index: u8,
        /// Its answer.
        source: kvm_ioctls::Error,
    },
    /// Its shared page could not be mapped.
    #[error("cannot map the shared page of vCPU {index}")]
    Share {
        /// Which one.
        index: u8,
        /// The system's answer.
        source: io::Error,
    },
    /// Its registers were refused.
    #[error(transparent)]
    Setup(#[from] setup::Error),
}

#[cfg(test)]
mod tests;
