//! Message-signalled interrupts: a GSI, an irqfd and a route for each vector.
//!
//! KVM_SET_GSI_ROUTING replaces the whole table (Documentation/virt/kvm/api.rst 4.52), so the table is kept here, and
//! each change writes it again together with the lines of the PICs and the I/O APIC that KVM has by default.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::interrupt::{MsiMessage, MsiVector};
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER,
    KVM_IRQCHIP_PIC_SLAVE, KvmIrqRouting, kvm_irq_routing_entry,
};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use super::vm::Current;

/// Lines of the I/O APIC.
const IOAPIC_LINES: u32 = 24;
/// Lines of one PIC; the slave's follow the master's.
const PIC_LINES: u32 = 8;

/// The interrupt routing of a VM.
#[derive(Debug)]
pub struct Routes {
    vm: Arc<Current>,
    table: Mutex<Table>,
}

/// What KVM was told, by GSI.
#[derive(Debug, Default)]
struct Table {
    messages: BTreeMap<u32, MsiMessage>,
    /// Those with an irqfd.
    connected: BTreeSet<u32>,
}

impl Routes {
    /// An empty table: KVM's own defaults hold until the first message is routed.
    pub(super) fn new(vm: Arc<Current>) -> Routes {
        Routes {
            vm,
            table: Mutex::default(),
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The VM is a new one, and knows nothing.
    pub(super) fn forget(&self) {
        *self.table() = Table::default();
    }

    /// A vector that is delivered through `gsi`, which nobody else may use.
    pub fn vector(self: &Arc<Self>, gsi: u32) -> io::Result<Arc<dyn MsiVector>> {
        let vector = Vector {
            routes: self.clone(),
            gsi,
            event: EventFd::new(EFD_NONBLOCK)?,
        };
        Ok(Arc::new(vector))
    }

    fn set(&self, table: &mut Table, gsi: u32, message: MsiMessage) -> io::Result<()> {
        let messages = &mut table.messages;
        let unchanged = messages
            .insert(gsi, message)
            .is_some_and(|old| (old.address, old.data) == (message.address, message.data));
        if unchanged {
            return Ok(());
        }
        let mut entries = default_routes();
        entries.extend(
            messages
                .iter()
                .map(|(gsi, message)| message_route(*gsi, *message)),
        );
        let table = KvmIrqRouting::from_entries(&entries)
            .map_err(|_| io::Error::other("more interrupt routes than KVM can hold"))?;
        Ok(self.vm.fd().set_gsi_routing(&table)?)
    }
}

/// The routes that KVM sets up in kvm_setup_default_irq_routing (arch/x86/kvm/irq_comm.c).
fn default_routes() -> Vec<kvm_irq_routing_entry> {
    (0..IOAPIC_LINES)
        .flat_map(|gsi| {
            let pic = match gsi / PIC_LINES {
                0 => Some((KVM_IRQCHIP_PIC_MASTER, gsi)),
                1 => Some((KVM_IRQCHIP_PIC_SLAVE, gsi - PIC_LINES)),
                _ => None,
            };
            let ioapic = Some((KVM_IRQCHIP_IOAPIC, gsi));
            [ioapic, pic]
                .into_iter()
                .flatten()
                .map(move |(chip, pin)| chip_route(gsi, chip, pin))
        })
        .collect()
}

fn chip_route(gsi: u32, irqchip: u32, pin: u32) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_IRQCHIP,
        ..Default::default()
    };
    entry.u.irqchip.irqchip = irqchip;
    entry.u.irqchip.pin = pin;
    entry
}

fn message_route(gsi: u32, message: MsiMessage) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry {
        gsi,
        type_: KVM_IRQ_ROUTING_MSI,
        ..Default::default()
    };
    let [low, high] = [message.address & u64::from(u32::MAX), message.address >> 32];
    entry.u.msi.address_lo = u32::try_from(low).unwrap_or_default();
    entry.u.msi.address_hi = u32::try_from(high).unwrap_or_default();
    entry.u.msi.data = message.data;
    entry
}

/// One vector: [`MsiVector`] by irqfd.
#[derive(Debug)]
struct Vector {
    routes: Arc<Routes>,
    gsi: u32,
    event: EventFd,
}

impl MsiVector for Vector {
    fn route(&self, message: Option<MsiMessage>) -> io::Result<()> {
        let mut table = self.routes.table();
        let vm = self.routes.vm.fd();
        match message {
            Some(message) => {
                self.routes.set(&mut table, self.gsi, message)?;
                if !table.connected.contains(&self.gsi) {
                    vm.register_irqfd(&self.event, self.gsi)?;
                    table.connected.insert(self.gsi);
                }
            }
            None => {
                if table.connected.contains(&self.gsi) {
                    vm.unregister_irqfd(&self.event, self.gsi)?;
                    table.connected.remove(&self.gsi);
                }
            }
        }
        Ok(())
    }

    /// KVM looks for a count when it is given the eventfd, so nothing that was written before is lost.
    fn bell(&self) -> io::Result<EventFd> {
        self.event.try_clone()
    }

    fn trigger(&self) -> io::Result<()> {
        self.event.write(1)
    }
}

#[cfg(test)]
mod tests;
