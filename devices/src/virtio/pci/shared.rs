//! What the vCPU threads and the device's worker share: the registers, under one lock.
//!
//! Nobody holds the lock while anything is done to guest memory, so a register access waits at most for another
//! register access or for the interrupt controller.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use memory::layout::{PCI32_WINDOW_END, PCI32_WINDOW_START};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::fault::{Faults, GuestFault};
use crate::interrupt::{Doorbells, MsiVector};
use crate::pci::msix::{Msix, NO_VECTOR};

use super::super::Description;
use super::super::common::{Common, QueueRegisters};
use super::super::device_config::DeviceConfig;
use super::layout::{BAR_SIZE, Layout, NOTIFY, NOTIFY_STEP};
use super::turns::Turns;

/// ISR status: a queue has used buffers. Only set while MSI-X is off, when nothing else would show it.
const ISR_QUEUE: u8 = 1;
/// ISR status: the device's configuration changed.
const ISR_CONFIG: u8 = 2;

/// What the transport wants of the worker. The driver cannot pile them up: each is there or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::virtio) struct Orders {
    /// The machine is going away.
    pub(in crate::virtio) stop: bool,
    /// Let go of the rings and forget the driver.
    pub(in crate::virtio) reset: bool,
    /// The driver is ready. Comes after `reset`, where both are there.
    pub(in crate::virtio) start: bool,
    /// The driver wrote the device's configuration.
    pub(in crate::virtio) config_written: bool,
    /// The driver moved interrupts that others raise.
    pub(in crate::virtio) vectors: bool,
}

/// All registers of one device.
#[derive(Debug)]
pub(super) struct Registers {
    pub(super) layout: Layout,
    pub(super) common: Common,
    pub(super) device: DeviceConfig,
    pub(super) msix: Msix,
    pub(super) isr: u8,
    pub(super) orders: Orders,
    /// For each queue, the guest address at which its doorbell is attached.
    doors: Vec<Option<u64>>,
    /// The driver was ready when bus mastering was taken from the device. Its rings may be anybody's memory since then, as
    /// they are when a kernel has started another (kexec), so they stay untouched until a reset.
    silenced: bool,
    /// How often the host refused a doorbell.
    refused: u32,
    /// The worker is gone.
    stopped: bool,
    /// The vectors of the queues as others raise them; `None` where nobody does.
    given: Option<Vec<u16>>,
}

#[derive(Debug)]
pub(in crate::virtio) struct Shared {
    registers: Mutex<Registers>,
    /// A reset is done, or the worker gone.
    reset_done: Condvar,
    /// Rung for [`Orders`], but for written configuration.
    bell: EventFd,
    /// Rung when the driver wrote configuration.
    config_bell: EventFd,
    /// One for each queue.
    kicks: Vec<EventFd>,
    /// Queues that have no doorbell, since the vCPU waits for a turn of the worker.
    awaited: Vec<u16>,
    turns: Turns,
    doorbells: Arc<dyn Doorbells>,
    faults: Arc<Faults>,
}

impl Shared {
    pub(super) fn new(
        device: &Description,
        awaited: &[u16],
        config: &[u8],
        layout: Layout,
        vectors: Vec<Arc<dyn MsiVector>>,
        doorbells: Arc<dyn Doorbells>,
        faults: Arc<Faults>,
    ) -> io::Result<Shared> {
        let kick = |_: &u16| EventFd::new(EFD_NONBLOCK);
        let msix = Msix::new(vectors);
        let registers = Registers {
            layout,
            common: Common::new(device.features, &device.queue_sizes, msix.len()),
            device: DeviceConfig::new(config, &device.config_writable),
            msix,
            isr: 0,
            orders: Orders::default(),
            doors: vec![None; device.queue_sizes.len()],
            silenced: false,
            refused: 0,
            stopped: false,
            given: None,
        };
        Ok(Shared {
            registers: Mutex::new(registers),
            reset_done: Condvar::new(),
            bell: EventFd::new(EFD_NONBLOCK)?,
            config_bell: EventFd::new(EFD_NONBLOCK)?,
            kicks: device.queue_sizes.iter().map(kick).collect::<io::Result<_>>()?,
            awaited: awaited.to_vec(),
            turns: Turns::default(),
            doorbells,
            faults,
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Registers> {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::virtio) fn faults(&self) -> &Faults {
        &self.faults
    }

    pub(in crate::virtio) fn bell(&self) -> &EventFd {
        &self.bell
    }

    pub(in crate::virtio) fn config_bell(&self) -> &EventFd {
        &self.config_bell
    }

    pub(in crate::virtio) fn kicks(&self) -> &[EventFd] {
        &self.kicks
    }

    pub(in crate::virtio) fn turns(&self) -> &Turns {
        &self.turns
    }

    /// Whether the driver waits for the worker when it kicks `queue`.
    pub(super) fn is_awaited(&self, queue: u16) -> bool {
        self.awaited.contains(&queue)
    }

    /// Rings a queue's bell, as a doorbell does. Returns whether there is such a queue.
    pub(in crate::virtio) fn kick(&self, queue: u16) -> bool {
        // A counter that is full has been rung enough.
        self.kicks
            .get(usize::from(queue))
            .map(|kick| kick.write(1))
            .is_some()
    }

    /// Tells the worker that the driver wrote configuration, when it has time to hear of it.
    pub(super) fn config_written(&self, registers: &mut Registers) {
        registers.orders.config_written = true;
        // A full counter is as good a ring as any.
        let _ = self.config_bell.write(1);
    }

    /// Leaves an order for the worker and wakes it.
    pub(super) fn order(&self, registers: &mut Registers, order: impl FnOnce(&mut Orders)) {
        order(&mut registers.orders);
        if registers.stopped {
            registers.finish_reset(None);
            self.reset_done.notify_all();
        } else {
            // A full counter is as good a ring as any.
            let _ = self.bell.write(1);
        }
    }

    /// Waits until no reset is under way.
    pub(super) fn wait_reset(&self) {
        let waiting = |registers: &mut Registers| registers.common.resetting() && !registers.stopped;
        drop(self.reset_done.wait_while(self.lock(), waiting));
    }

    /// Waits until the worker is gone, so long at most; whether it is.
    pub(super) fn wait_stopped(&self, time: Duration) -> bool {
        let waiting = |registers: &mut Registers| !registers.stopped;
        let waited = self.reset_done.wait_timeout_while(self.lock(), time, waiting);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopped
    }

    /// Takes the orders, and the driver's configuration into `config` where there is any news of it.
    pub(in crate::virtio) fn take_orders(&self, config: &mut Vec<u8>) -> Orders {
        let mut registers = self.lock();
        let orders = std::mem::take(&mut registers.orders);
        if orders.config_written {
            config.clear();
            config.extend_from_slice(registers.device.bytes());
        }
        orders
    }

    /// Accepted features and queues of a driver that is ready.
    pub(in crate::virtio) fn activation(&self) -> (u64, Vec<QueueRegisters>) {
        let registers = self.lock();
        (registers.common.features(), registers.common.queues().to_vec())
    }

    /// For each queue what interrupts the driver, for others to use; from here on there is an order when that changes.
    pub(in crate::virtio) fn give_interrupts(&self) -> Vec<Option<EventFd>> {
        let mut registers = self.lock();
        let vectors = registers.vectors();
        let bells = vectors
            .iter()
            .map(|vector| registers.msix.bell(*vector))
            .collect();
        registers.given = Some(vectors);
        bells
    }

    /// Gives an order if interrupts that others raise have been moved.
    pub(super) fn check_given(&self, registers: &mut Registers) {
        if registers
            .given
            .as_ref()
            .is_some_and(|given| *given != registers.vectors())
        {
            self.order(registers, |orders| orders.vectors = true);
        }
    }

    /// The worker has let go of the rings: the driver may see status 0.
    pub(in crate::virtio) fn finish_reset(&self, config: &[u8]) {
        self.lock().finish_reset(Some(config));
        self.reset_done.notify_all();
    }

    /// The worker is gone: whoever waits for it need not.
    pub(in crate::virtio) fn stopped(&self) {
        self.lock().stopped = true;
        self.reset_done.notify_all();
        self.turns.end();
    }

    /// The device's configuration is now `config`; tells the driver if that is news.
    pub(in crate::virtio) fn publish(&self, config: &[u8]) {
        let mut registers = self.lock();
        if registers.device.publish(config) && registers.common.driver_ok() && !registers.common.resetting() {
            registers.interrupt_config();
        }
    }

    /// The device cannot go on: DEVICE_NEEDS_RESET, and an interrupt to say so.
    pub(in crate::virtio) fn needs_reset(&self) {
        let mut registers = self.lock();
        if registers.common.set_needs_reset() {
            registers.interrupt_config();
        }
    }

    /// Whether the rings may not be touched, although the driver was ready and has not reset the device.
    pub(in crate::virtio) fn silenced(&self) -> bool {
        self.lock().silenced
    }

    /// Tells the driver about used buffers.
    pub(in crate::virtio) fn interrupt_queue(&self, queue: u16) {
        let mut registers = self.lock();
        if !registers.msix.enabled() {
            registers.isr |= ISR_QUEUE;
        }
        let vector = registers.common.queue_vector(queue);
        registers.msix.raise(vector);
    }

    /// Puts the doorbells where the notification registers are now, or nowhere.
    pub(super) fn move_doorbells(&self, registers: &mut Registers) {
        let base = registers.bar().map(|(base, _)| base + u64::from(NOTIFY));
        let Registers { doors, refused, .. } = registers;
        for ((queue, door), kick) in (0..).zip(doors).zip(&self.kicks) {
            let own = base.filter(|_| !self.is_awaited(queue));
            let wanted = own.map(|base| base + u64::from(queue) * u64::from(NOTIFY_STEP));
            if *door == wanted {
                continue;
            }
            let detached = door.take().map_or(Ok(()), |old| self.doorbells.detach(old, kick));
            let attached = wanted.map_or(Ok(()), |new| self.doorbells.attach(new, kick));
            // Without a doorbell the register itself takes the kicks.
            *door = wanted.filter(|_| attached.is_ok());
            if let Err(error) = detached.and(attached) {
                // A guest may cause as many refusals as it likes, so most of them are left out.
                *refused = refused.saturating_add(1);
                if refused.is_power_of_two() {
                    tracing::warn!(times = *refused, "cannot move a doorbell to {wanted:x?}: {error}");
                }
            }
        }
    }

    pub(super) fn count(&self, offset: u64) {
        self.faults.count(GuestFault::VirtioRegister { offset });
    }
}

impl Registers {
    /// Guest address and size of the BAR, while it is decoded and lies in the window for such BARs.
    pub(super) fn bar(&self) -> Option<(u64, u64)> {
        let base = u64::from(self.layout.config.bar0());
        let size = u64::from(BAR_SIZE);
        let there = base >= PCI32_WINDOW_START && base + size <= PCI32_WINDOW_END;
        (there && self.layout.config.memory_enabled()).then_some((base, size))
    }

    /// The vector of each queue, or none while MSI-X is off.
    fn vectors(&self) -> Vec<u16> {
        let vector = |queue: &QueueRegisters| match self.msix.enabled() {
            true => queue.vector,
            false => NO_VECTOR,
        };
        self.common.queues().iter().map(vector).collect()
    }

    /// The guest has switched bus mastering off.
    pub(super) fn silence(&mut self) {
        self.silenced |= self.common.driver_ok();
    }

    fn interrupt_config(&mut self) {
        self.isr |= ISR_CONFIG;
        if !self.silenced {
            self.msix.raise(self.common.config_vector());
        }
    }

    fn finish_reset(&mut self, config: Option<&[u8]>) {
        if self.common.resetting() {
            self.common.finish_reset();
            self.isr = 0;
            self.silenced = false;
            self.given = None;
        }
        if let Some(config) = config {
            self.device.replace(config);
        }
    }
}
