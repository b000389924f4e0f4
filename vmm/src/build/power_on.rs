//! The state of a machine before its first instruction: made at the start, and again at each reset.

use std::mem;

use boot::{BootPlatform, BootSpec};
use memory::ram::Ram;
use memory::range::GuestRange;

use super::Error;
use crate::kvm::cpuid::Processors;
use crate::kvm::vcpu::{Buses, Vcpu};
use crate::kvm::vm::Vm;
use crate::vcpu_thread::Kickable;

/// All that it takes.
#[derive(Debug)]
pub struct PowerOn {
    pub(super) ram: Ram,
    pub(super) vm: Vm,
    pub(super) buses: Buses,
    pub(super) boot: BootSpec,
    pub(super) platform: BootPlatform,
    pub(super) processors: Processors,
}

impl PowerOn {
    /// Loads the kernel into RAM and makes the vCPUs, the first one about to start it.
    ///
    /// # Errors
    /// When there is no such kernel, no memory for it, or KVM refuses a vCPU.
    pub fn first(&self) -> Result<Vec<Kickable>, Error> {
        // Nobody would wait for a page that is missing now.
        for range in boot::ranges(&self.ram, &self.boot)? {
            self.ram.provide(range)?;
        }
        self.load()
    }

    fn load(&self) -> Result<Vec<Kickable>, Error> {
        let entry = boot::load(&self.ram, &self.boot, &self.platform)?;
        let mut vcpus = Vec::new();
        for (index, found) in (0..).zip(self.processors.cpuids()) {
            let (apic_id, cpuid) = found?;
            let vcpu = Vcpu::new(
                &self.vm,
                index,
                apic_id,
                &cpuid,
                self.buses.clone(),
                self.ram.clone(),
            )?;
            if index == 0 {
                vcpu.start_at(&entry)?;
            }
            let flag = vcpu.exit_flag(&self.vm)?;
            vcpus.push((vcpu, flag));
        }
        Ok(vcpus)
    }

    /// Resets everything. `old` are all vCPUs that there are; they do not run. Pages of RAM that are `broken` are replaced. Waits for the devices' workers, and, where the
    /// host is short of it, for memory: nothing for the main thread.
    ///
    /// # Errors
    /// When KVM has no new machine, or the kernel's files are no longer what they were.
    pub fn again(&self, old: Vec<Vcpu>, broken: &[GuestRange]) -> Result<Vec<Kickable>, Error> {
        // Requests in flight come to their end here. After it nobody uses RAM.
        self.buses.ports.reset();
        self.buses.mmio.reset();
        // The last of the old VM, so that there are never two.
        mem::drop(old);
        self.vm.renew()?;
        // These also where the others stay, and before the reset forgets that anything was given back.
        if !broken.is_empty() {
            self.ram.replace(broken);
        }
        let discarded = self.ram.reset();
        tracing::debug!("reset: {discarded} bytes of RAM given back");
        self.load()
    }
}
