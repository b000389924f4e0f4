//! The PCI transport of virtio (virtio 1.2, §4.1): modern only, MSI-X only.
//!
//! One 32-bit memory BAR holds a page each for common configuration, ISR status, device configuration,
//! notifications, MSI-X table and pending bits. Queue kicks reach the worker by doorbells, which follow the BAR
//! wherever the guest puts it; a kick that comes as a register write does the same.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use memory::ram::Ram;
use thiserror::Error as ThisError;

use crate::action::Action;
use crate::fault::{Faults, GuestFault};
use crate::interrupt::{Doorbells, MsiVector};
use crate::pci::config::{BAR0, COMMAND};
use crate::pci::{PciFunction, Waits};

use super::VirtioDevice;
use super::worker::Worker;

mod bar;
mod layout;
pub(super) mod shared;
mod turns;

use layout::{
    BAR_SIZE, Layout, MAX_QUEUES, MAX_VECTORS, MSIX_CONTROL_HIGH, WINDOW_BAR, WINDOW_DATA, WINDOW_LENGTH,
    WINDOW_OFFSET,
};
use shared::{Registers, Shared};

/// Guest addresses that a device's BAR takes; a BAR address is a multiple of it.
pub const BAR_BYTES: u64 = BAR_SIZE as u64;

/// How often the end looks whether its worker is one that does not come.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Errors of making a device; never caused by a guest.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The device description is not one that PCI can carry.
    #[error("device '{id}' has {queues} queues and {vectors} vectors, its BAR is at {bar:#x}: not possible")]
    CheckDevice {
        /// The device.
        id: String,
        /// Number of its queues.
        queues: usize,
        /// Number of vectors given.
        vectors: usize,
        /// The BAR's address.
        bar: u64,
    },
    /// An eventfd or epoll instance cannot be had.
    #[error("cannot make the events of device '{id}'")]
    CreateEvents {
        /// The device.
        id: String,
        /// What the host said.
        source: io::Error,
    },
    /// The worker's thread cannot be started.
    #[error("cannot start the thread of device '{id}'")]
    SpawnWorker {
        /// The device.
        id: String,
        /// What the host said.
        source: io::Error,
    },
}

/// A virtio device on the PCI bus, and its worker thread.
#[derive(Debug)]
pub struct VirtioPci {
    shared: Arc<Shared>,
    /// The registers after power-on.
    initial: Layout,
    worker: Mutex<Option<JoinHandle<()>>>,
}

impl VirtioPci {
    /// Puts `device` behind PCI registers and starts its worker, named after it.
    ///
    /// `vectors` are its interrupts: one is enough, [`super::Description::vectors`] the useful maximum. The BAR
    /// starts at `bar_address`, a multiple of [`BAR_BYTES`] below 4 GiB, not decoded yet.
    ///
    /// # Errors
    /// When the device or its addresses cannot be, or the host has no event descriptors or threads left.
    pub fn new(
        device: Box<dyn VirtioDevice>,
        ram: Ram,
        vectors: Vec<Arc<dyn MsiVector>>,
        doorbells: Arc<dyn Doorbells>,
        faults: Arc<Faults>,
        bar_address: u64,
    ) -> Result<Arc<VirtioPci>, Error> {
        let description = device.description();
        let id = description.id.clone();
        let (queues, count) = (description.queue_sizes.len(), vectors.len());
        let bad = || Error::CheckDevice {
            id: id.clone(),
            queues,
            vectors: count,
            bar: bar_address,
        };
        let sizes_fit = description
            .queue_sizes
            .iter()
            .all(|size| size.is_power_of_two() && *size <= 32768);
        let bar = u32::try_from(bar_address)
            .ok()
            .filter(|bar| bar.is_multiple_of(BAR_SIZE))
            .ok_or_else(bad)?;
        let config_len = u32::try_from(device.config().len())
            .ok()
            .filter(|len| *len <= 4096)
            .ok_or_else(bad)?;
        let table = u16::try_from(count)
            .ok()
            .filter(|_| (1..=MAX_VECTORS).contains(&count))
            .ok_or_else(bad)?;
        if queues > MAX_QUEUES || !sizes_fit {
            return Err(bad());
        }

        let layout = Layout::new(&description, bar, config_len, table);
        let initial = layout.clone();
        let awaited = device.awaited();
        let config = device.config();
        let shared = Shared::new(&description, awaited, config, layout, vectors, doorbells, faults);
        let shared = shared.map_err(|source| Error::CreateEvents {
            id: id.clone(),
            source,
        })?;
        let shared = Arc::new(shared);
        let worker = Worker::new(device, ram, Arc::clone(&shared));
        let worker = worker.map_err(|source| Error::CreateEvents {
            id: id.clone(),
            source,
        })?;
        let thread = thread::Builder::new()
            .name(id.replace('\0', ""))
            .spawn(move || worker.run());
        let thread = thread.map_err(|source| Error::SpawnWorker { id, source })?;
        Ok(Arc::new(VirtioPci {
            shared,
            initial,
            worker: Mutex::new(Some(thread)),
        }))
    }

    /// Stops the worker and waits for its end; takes doorbells and interrupts off. Calling it again does nothing.
    pub fn shutdown(&self) {
        self.end(&|_| false);
    }

    /// Waits until the worker has let go of guest memory; false: it never will.
    fn has_stopped(&self, worker: &JoinHandle<()>, waits: &Waits<'_>) -> bool {
        while !self.shared.wait_stopped(LOOK_AGAIN) && !worker.is_finished() {
            if waits(worker) {
                return false;
            }
        }
        true
    }

    /// PCI configuration as after power-on; with it doorbells and interrupt routes go.
    fn power_on_registers(&self) {
        let mut registers = self.shared.lock();
        registers.layout = self.initial.clone();
        registers.msix.reset();
        self.shared.move_doorbells(&mut registers);
    }

    /// Where the driver's window in configuration space points to, if it is one that may be used.
    fn window(registers: &Registers) -> Option<(u64, usize)> {
        let (config, at) = (&registers.layout.config, registers.layout.window);
        let bar = config.get_u32(at + WINDOW_BAR) & 0xff;
        let offset = config.get_u32(at + WINDOW_OFFSET);
        let length = config.get_u32(at + WINDOW_LENGTH);
        let usable = bar == 0 && matches!(length, 1 | 2 | 4) && offset.is_multiple_of(length);
        usable.then_some((u64::from(offset), length as usize))
    }
}

/// Whether an access to configuration space touches the `len` bytes at `at`.
fn touches(offset: usize, data: &[u8], at: usize, len: usize) -> bool {
    offset < at + len && at < offset + data.len()
}

impl PciFunction for VirtioPci {
    fn config_read(&self, offset: u16, data: &mut [u8]) {
        let mut registers = self.shared.lock();
        let window = registers.layout.window + WINDOW_DATA;
        let offset = usize::from(offset);
        if touches(offset, data, window, 4) {
            match VirtioPci::window(&registers) {
                Some((at, length)) => {
                    let mut value = [0; 4];
                    self.shared.read_bar(&mut registers, at, &mut value[..length]);
                    registers.layout.config.put(window, &value[..length]);
                }
                None => self.shared.faults().count(GuestFault::PciConfig {
                    offset: offset as u64,
                }),
            }
        }
        registers.layout.config.read(offset, data);
    }

    fn config_write(&self, offset: u16, data: &[u8]) -> Action {
        let mut registers = self.shared.lock();
        let offset = usize::from(offset);
        let master = registers.layout.config.bus_master();
        registers.layout.config.write(offset, data);
        if master && !registers.layout.config.bus_master() {
            registers.silence();
            // Who works on the rings outside has to hear of it.
            self.shared.order(&mut registers, |_| ());
        }
        if touches(offset, data, COMMAND, 2) || touches(offset, data, BAR0, 4) {
            self.shared.move_doorbells(&mut registers);
        }
        let control = registers.layout.msix + MSIX_CONTROL_HIGH;
        if touches(offset, data, control, 1) {
            let [value, ..] = registers.layout.config.get_u32(control).to_le_bytes();
            registers.msix.set_control(value);
            self.shared.check_given(&mut registers);
        }
        let window = registers.layout.window + WINDOW_DATA;
        if touches(offset, data, window, 4) {
            match VirtioPci::window(&registers) {
                Some((at, length)) => {
                    let value = registers.layout.config.get_u32(window).to_le_bytes();
                    // No way for drivers that are in a hurry.
                    let _ = self.shared.write_bar(&mut registers, at, &value[..length]);
                }
                None => self.shared.faults().count(GuestFault::PciConfig {
                    offset: offset as u64,
                }),
            }
        }
        Action::None
    }

    fn bar(&self) -> Option<(u64, u64)> {
        self.shared.lock().bar()
    }

    fn bar_read(&self, offset: u64, data: &mut [u8]) {
        self.shared.read_bar(&mut self.shared.lock(), offset, data);
    }

    fn bar_write(&self, offset: u64, data: &[u8]) -> Action {
        let turn = self.shared.write_bar(&mut self.shared.lock(), offset, data);
        // Without the lock: the worker needs it. Nothing is wrong when it did not come, the kick is waiting for it.
        let _ = turn.is_none_or(|turn| self.shared.turns().wait(turn));
        Action::None
    }

    /// Returns when the worker has let go of guest memory.
    fn reset(&self) {
        let mut registers = self.shared.lock();
        registers.common.begin_reset();
        self.shared.order(&mut registers, |orders| {
            (orders.reset, orders.start) = (true, false);
        });
        drop(registers);
        self.shared.wait_reset();
        self.power_on_registers();
    }

    /// A worker that is left behind keeps what it needs: the device, its half of the registers, and guest memory.
    fn end(&self, waits: &Waits<'_>) {
        let worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(worker) = worker {
            self.shared
                .order(&mut self.shared.lock(), |orders| orders.stop = true);
            if !self.has_stopped(&worker, waits) {
                tracing::warn!(
                    "device '{}' waits for a page of guest memory that the host does not have: what it was doing is not finished",
                    worker.thread().name().unwrap_or_default()
                );
            } else if worker.join().is_err() {
                tracing::error!("a device worker has panicked");
            }
        }
        self.power_on_registers();
    }
}

impl Drop for VirtioPci {
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[cfg(test)]
mod tests;
