//! One KVM virtual machine: its in-kernel devices and its memory slots.

use std::sync::Arc;

use devices::interrupt::Doorbells;
use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config, kvm_userspace_memory_region};
use kvm_ioctls::{IoEventAddress, Kvm, NoDatamatch, VmFd};
use memory::layout;
use memory::ram::Ram;
use vmm_sys_util::eventfd::EventFd;

use super::irq::Routes;

/// Most bytes of a slot. KVM takes one page less than 8 TiB (`KVM_MEM_MAX_NR_PAGES`); this keeps huge pages whole.
const SLOT: u64 = 4 << 40;

/// Why a virtual machine could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step that KVM refused.
    #[error("KVM refused to {step}")]
    Step {
        /// What was tried.
        step: &'static str,
        /// Its answer.
        source: kvm_ioctls::Error,
    },
    /// A memory slot was refused.
    #[error("KVM refused guest memory at {guest:#x}, {length:#x} bytes")]
    Slot {
        /// Guest address.
        guest: u64,
        /// Bytes.
        length: u64,
        /// Its answer.
        source: kvm_ioctls::Error,
    },
    /// There are more pieces of memory than slot numbers.
    #[error("guest memory has more pieces than KVM has slots")]
    Slots,
}

fn step(step: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |source| Error::Step { step, source }
}

/// A KVM VM with its memory. Keeps the [`Ram`] alive as long as KVM may use it.
#[derive(Debug)]
pub struct Vm {
    fd: Arc<VmFd>,
    routes: Arc<Routes>,
    ram: Ram,
}

impl Vm {
    /// Makes a VM with interrupt controllers, a timer, and a slot for every region of `ram`.
    pub fn new(kvm: &Kvm, ram: Ram) -> Result<Vm, Error> {
        let fd = kvm.create_vm().map_err(step("create a virtual machine"))?;
        // Both must be placed before the first vCPU, below 4 GiB and outside every slot (api.rst 4.35, 4.41).
        fd.set_identity_map_address(layout::KVM_IDENTITY_MAP)
            .map_err(step("place its identity map"))?;
        let tss = usize::try_from(layout::KVM_TSS).map_err(|_| Error::Slots)?;
        fd.set_tss_address(tss)
            .map_err(step("place its task state segment"))?;
        fd.create_irq_chip()
            .map_err(step("create the interrupt controllers"))?;
        let pit = kvm_pit_config {
            flags: KVM_PIT_SPEAKER_DUMMY,
            ..Default::default()
        };
        fd.create_pit2(pit).map_err(step("create the timer"))?;
        let fd = Arc::new(fd);
        let vm = Vm {
            routes: Arc::new(Routes::new(fd.clone())),
            fd,
            ram,
        };
        vm.set_memory()?;
        Ok(vm)
    }

    fn set_memory(&self) -> Result<(), Error> {
        let regions = self.ram.regions().iter();
        let slots = regions.flat_map(|region| {
            pieces(region.guest().len).map(|(offset, length)| kvm_userspace_memory_region {
                guest_phys_addr: region.guest().start.0 + offset,
                memory_size: length,
                userspace_addr: region.host_address() + offset,
                ..Default::default()
            })
        });
        for (slot, mut region) in slots.enumerate() {
            region.slot = u32::try_from(slot).map_err(|_| Error::Slots)?;
            // SAFETY: memory::region::Region keeps the range mapped, and self.ram keeps the region, until after the VM's
            // file descriptor is closed.
            unsafe { self.fd.set_user_memory_region(region) }.map_err(|source| Error::Slot {
                guest: region.guest_phys_addr,
                length: region.memory_size,
                source,
            })?;
        }
        Ok(())
    }

    /// The file descriptor, for vCPUs.
    pub fn fd(&self) -> &VmFd {
        &self.fd
    }

    /// The interrupt routing of this VM.
    pub fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    /// Ties an eventfd to an interrupt line of the I/O APIC.
    pub fn connect_line(&self, line: &EventFd, gsi: u32) -> Result<(), Error> {
        self.fd
            .register_irqfd(line, gsi)
            .map_err(step("connect an interrupt line"))
    }

    /// The doorbells of virtio queues, as ioeventfds of this VM.
    pub fn doorbells(&self) -> Arc<dyn Doorbells> {
        Arc::new(IoEvents(self.fd.clone()))
    }
}

/// [`Doorbells`] by KVM_IOEVENTFD: a guest's write becomes a count in an eventfd without leaving the kernel.
#[derive(Debug)]
struct IoEvents(Arc<VmFd>);

impl Doorbells for IoEvents {
    fn attach(&self, address: u64, kick: &EventFd) -> std::io::Result<()> {
        Ok(self
            .0
            .register_ioevent(kick, &IoEventAddress::Mmio(address), NoDatamatch)?)
    }

    fn detach(&self, address: u64, kick: &EventFd) -> std::io::Result<()> {
        Ok(self
            .0
            .unregister_ioevent(kick, &IoEventAddress::Mmio(address), NoDatamatch)?)
    }
}

/// The pieces of so many bytes, each an offset and a length, that fit into slots.
fn pieces(length: u64) -> impl Iterator<Item = (u64, u64)> {
    (0..length.div_ceil(SLOT)).map(move |index| {
        let offset = index * SLOT;
        (offset, SLOT.min(length - offset))
    })
}

#[cfg(test)]
mod tests;
