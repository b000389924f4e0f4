//! One KVM virtual machine: its in-kernel devices and its memory slots.

use std::sync::{Arc, Mutex, PoisonError};

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
    /// An interrupt line could not be kept for later.
    #[error("cannot keep an interrupt line")]
    CloneLine(#[source] std::io::Error),
    /// There are more pieces of memory than slot numbers.
    #[error("guest memory has more pieces than KVM has slots")]
    Slots,
}

fn step(step: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |source| Error::Step { step, source }
}

/// The VM that is there now, for those who outlive it: a machine that is reset gets another one.
#[derive(Debug)]
pub(super) struct Current(Mutex<Arc<VmFd>>);

impl Current {
    /// Its file descriptor.
    pub(super) fn fd(&self) -> Arc<VmFd> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, fd: VmFd) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(fd);
    }
}

/// A KVM VM with its memory. Keeps the [`Ram`] alive as long as KVM may use it.
#[derive(Debug)]
pub struct Vm {
    kvm: Kvm,
    current: Arc<Current>,
    routes: Arc<Routes>,
    ram: Ram,
    /// What raises the lines of the I/O APIC, by number.
    lines: Mutex<Vec<(EventFd, u32)>>,
}

/// An empty VM with interrupt controllers and a timer.
fn create(kvm: &Kvm) -> Result<VmFd, Error> {
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
    Ok(fd)
}

impl Vm {
    /// Makes a VM with interrupt controllers, a timer, and a slot for every region of `ram`.
    pub fn new(kvm: Kvm, ram: Ram) -> Result<Vm, Error> {
        let current = Arc::new(Current(Mutex::new(Arc::new(create(&kvm)?))));
        let vm = Vm {
            kvm,
            routes: Arc::new(Routes::new(Arc::clone(&current))),
            current,
            ram,
            lines: Mutex::new(Vec::new()),
        };
        vm.set_memory()?;
        Ok(vm)
    }

    /// Puts a new VM in the place of the old one: what KVM knew of the guest is gone, to the last register. The old one's
    /// vCPUs are to be gone, its doorbells and messages taken off; interrupt lines and memory move over.
    pub fn renew(&self) -> Result<(), Error> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let old = self.current.fd();
        for (line, gsi) in &*lines {
            // A kernel may take an eventfd for one VM only.
            old.unregister_irqfd(line, *gsi)
                .map_err(step("disconnect an interrupt line"))?;
        }
        self.current.replace(create(&self.kvm)?);
        drop(old);
        self.routes.forget();
        self.set_memory()?;
        lines.iter().try_for_each(|(line, gsi)| self.register(line, *gsi))
    }

    fn register(&self, line: &EventFd, gsi: u32) -> Result<(), Error> {
        self.fd()
            .register_irqfd(line, gsi)
            .map_err(step("connect an interrupt line"))
    }

    fn set_memory(&self) -> Result<(), Error> {
        let fd = self.fd();
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
            unsafe { fd.set_user_memory_region(region) }.map_err(|source| Error::Slot {
                guest: region.guest_phys_addr,
                length: region.memory_size,
                source,
            })?;
        }
        Ok(())
    }

    /// The file descriptor, for vCPUs.
    pub fn fd(&self) -> Arc<VmFd> {
        self.current.fd()
    }

    /// The KVM that it is of.
    pub fn kvm(&self) -> &Kvm {
        &self.kvm
    }

    /// The interrupt routing of this VM.
    pub fn routes(&self) -> &Arc<Routes> {
        &self.routes
    }

    /// Ties an eventfd to an interrupt line of the I/O APIC.
    pub fn connect_line(&self, line: &EventFd, gsi: u32) -> Result<(), Error> {
        let ours = line.try_clone().map_err(Error::CloneLine)?;
        self.register(&ours, gsi)?;
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push((ours, gsi));
        Ok(())
    }

    /// The doorbells of virtio queues, as ioeventfds of this VM.
    pub fn doorbells(&self) -> Arc<dyn Doorbells> {
        Arc::new(IoEvents(Arc::clone(&self.current)))
    }
}

/// [`Doorbells`] by KVM_IOEVENTFD: a guest's write becomes a count in an eventfd without leaving the kernel.
#[derive(Debug)]
struct IoEvents(Arc<Current>);

impl Doorbells for IoEvents {
    fn attach(&self, address: u64, kick: &EventFd) -> std::io::Result<()> {
        let fd = self.0.fd();
        Ok(fd.register_ioevent(kick, &IoEventAddress::Mmio(address), NoDatamatch)?)
    }

    fn detach(&self, address: u64, kick: &EventFd) -> std::io::Result<()> {
        let fd = self.0.fd();
        Ok(fd.unregister_ioevent(kick, &IoEventAddress::Mmio(address), NoDatamatch)?)
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
