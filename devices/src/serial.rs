//! The serial console: a 16550 at COM1.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use vm_superio::serial::NoEvents;
use vm_superio::{Serial, Trigger};
use vmm_sys_util::eventfd::EventFd;

use crate::action::Action;
use crate::bus::BusDevice;
use crate::typed::{InputLine, Typed};

/// I/O ports of a 16550.
pub const SERIAL_PORTS: u64 = 8;

/// What a driver would write to bring the registers to their values after power-on: offset and value, in this order. Out of
/// loopback; the divisor, between opening and closing its latch; no interrupts; the scratch register.
const POWER_ON: [(u8, u8); 7] = [
    (4, 0x08),
    (3, 0x83),
    (0, 0x0c),
    (1, 0x00),
    (3, 0x03),
    (1, 0x00),
    (7, 0x00),
];
/// Offset of the register with the next input byte, and of that which says what interrupted; reading either clears it.
const DATA: u8 = 0;
const INTERRUPT: u8 = 2;

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
    /// The UART's capacity for input when it has none.
    empty: usize,
    /// Input that is not in the UART yet.
    typed: Typed,
}

impl Uart {
    /// Moves the next typed byte into the UART when the guest has read the last.
    ///
    /// One at a time, since the crate tells of data when it comes and never of data that is still there: a driver that stops
    /// in the middle, as Linux's does after 256 bytes, would not hear of the rest.
    fn pump(&mut self) {
        if self.serial.fifo_capacity() < self.empty {
            return;
        }
        let Some(byte) = self.typed.first() else {
            return;
        };
        match self.serial.enqueue_raw_bytes(&[byte]) {
            // It has the byte also where the interrupt could not be raised, which only a full counter of interrupts can cause.
            Ok(1..) | Err(vm_superio::serial::Error::Trigger(_)) => drop(self.typed.take(1)),
            // Loopback: try at the next access.
            Ok(0) | Err(_) => {}
        }
    }
}

/// A 16550 UART, whose output goes to a writer and whose input comes from [`InputLine::input`].
pub struct SerialPort {
    uart: Mutex<Uart>,
    room: EventFd,
}

impl fmt::Debug for SerialPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SerialPort")
            .field("typed", &self.lock().typed.len())
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
        let serial = Serial::new(Irq(irq), out);
        let uart = Uart {
            empty: serial.fifo_capacity(),
            serial,
            typed: Typed::default(),
        };
        Ok(SerialPort {
            uart: Mutex::new(uart),
            room: EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK)?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Uart> {
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn after_access(&self, uart: &mut Uart) {
        uart.pump();
        if uart.typed.has_room_again() {
            // A full counter is as readable as any other.
            let _ = self.room.write(1);
        }
    }
}

impl InputLine for SerialPort {
    fn input(&self, bytes: &[u8]) -> usize {
        let mut uart = self.lock();
        uart.pump();
        let taken = uart.typed.push(bytes);
        uart.pump();
        taken
    }

    fn room(&self) -> &EventFd {
        &self.room
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

    /// What the UART held is lost; what waits outside of it is for the next driver.
    fn reset(&self) {
        let mut uart = self.lock();
        for (offset, value) in POWER_ON {
            // With its interrupts off it raises none, and these registers go nowhere.
            let _ = uart.serial.write(offset, value);
        }
        while uart.serial.fifo_capacity() < uart.empty {
            uart.serial.read(DATA);
        }
        uart.serial.read(INTERRUPT);
    }
}

#[cfg(test)]
mod tests;
