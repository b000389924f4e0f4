//! The serial console: a 16550 at COM1.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::action::Action;
use crate::bus::BusDevice;

/// I/O ports of a 16550.
pub const SERIAL_PORTS: u64 = 8;

/// Input bytes kept for a guest that does not read them, beyond the UART's own 64.
const BACKLOG: usize = 4096;

/// Raises the port's interrupt; never blocks and never fails the guest's access.
struct Irq(EventFd);

impl Trigger for Irq {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.0.write(1)
    }
}

struct Uart {
    serial: Serial<Irq, NoEvents, Box<dyn Write + Send>>,
    /// Input that the UART had no room for yet.
    backlog: VecDeque<u8>,
    /// Input was refused, and nobody has been told since that there is room again.
    refused: bool,
}

impl Uart {
    /// Moves input from the backlog into the UART, as much as it takes.
    fn pump(&mut self) {
        while !self.backlog.is_empty() {
            let (bytes, _) = self.backlog.as_slices();
            // Zero, or an error for a full UART or an interrupt that could not be raised: try at the next access.
            let Ok(taken @ 1..) = self.serial.enqueue_raw_bytes(bytes) else {
                return;
            };
            self.backlog.drain(..taken);
        }
    }
}

/// A 16550 UART, whose output goes to a writer and whose input comes from [`SerialPort::input`].
pub struct SerialPort {
    uart: Mutex<Uart>,
    room: EventFd,
}

impl fmt::Debug for SerialPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerialPort")
            .field("backlog", &self.lock().backlog.len())
            .finish_non_exhaustive()
    }
}

impl SerialPort {
    /// A port which raises `irq` (edge-triggered) and writes each output byte to `out` at once.
    ///
    /// What `out` cannot take is lost, as on a line that nobody listens to.
    ///
    /// # Errors
    /// When no eventfd can be had.
    pub fn new(irq: EventFd, out: Box<dyn Write + Send>) -> io::Result<SerialPort> {
        let uart = Uart {
            serial: Serial::new(Irq(irq), out),
            backlog: VecDeque::new(),
            refused: false,
        };
        Ok(SerialPort {
            uart: Mutex::new(uart),
            room: EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK)?,
        })
    }

    /// Queues `bytes` as input, and returns how many of them there was room for.
    ///
    /// A caller that gets less than it gave stops reading its source until [`SerialPort::room`] becomes readable.
    #[must_use = "the rest has to be given again later"]
    pub fn input(&self, bytes: &[u8]) -> usize {
        let mut uart = self.lock();
        uart.pump();
        let taken = bytes.len().min(BACKLOG - uart.backlog.len().min(BACKLOG));
        uart.backlog.extend(&bytes[..taken]);
        uart.refused = taken < bytes.len();
        uart.pump();
        taken
    }

    /// Becomes readable when there is room for input after some was refused. The reader clears it.
    #[must_use]
    pub fn room(&self) -> &EventFd {
        &self.room
    }

    fn lock(&self) -> MutexGuard<'_, Uart> {
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn after_access(&self, uart: &mut Uart) {
        uart.pump();
        if uart.refused && uart.backlog.len() < BACKLOG / 2 {
            uart.refused = false;
            // A full counter is as readable as any other.
            let _ = self.room.write(1);
        }
    }
}

impl BusDevice for SerialPort {
    fn read(&self, offset: u64, data: &mut [u8]) {
        let mut uart = self.lock();
        for (port, byte) in (offset..).zip(data) {
            *byte = u8::try_from(port).map_or(0xff, |port| uart.serial.read(port));
        }
        self.after_access(&mut uart);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        let mut uart = self.lock();
        for (port, byte) in (offset..).zip(data) {
            if let Ok(port) = u8::try_from(port)
                && let Err(error) = uart.serial.write(port, *byte)
            {
                tracing::debug!("serial port: {error}");
            }
        }
        self.after_access(&mut uart);
        Action::None
    }
}

#[cfg(test)]
mod tests;
