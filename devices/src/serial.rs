//! The serial console: a 16550 at COM1.

use std::cell::Cell;
use std::convert::Infallible;
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

/// Notes that the port's interrupt is due.
#[derive(Default)]
struct Irq(Cell<bool>);

impl Trigger for Irq {
    type E = Infallible;

    fn trigger(&self) -> Result<(), Infallible> {
        self.0.set(true);
        Ok(())
    }
}

/// The byte that the guest has just sent, on its way to the outlet.
#[derive(Default)]
struct Sent(Option<u8>);

impl Write for Sent {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = bytes.first().copied();
        Ok(bytes.len().min(1))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Uart {
    serial: Serial<Irq, NoEvents, Sent>,
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
        // None is taken in loopback: try at the next access.
        if let Ok(1..) = self.serial.enqueue_raw_bytes(&[byte]) {
            self.typed.take(1);
        }
    }
}

/// A 16550 UART, whose output goes to a writer and whose input comes from [`InputLine::input`].
pub struct SerialPort {
    /// Never held while anybody waits.
    uart: Mutex<Uart>,
    /// Held by the vCPU that waits for it; taken without the UART.
    out: Mutex<Box<dyn Write + Send>>,
    irq: EventFd,
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
    /// Where `out` waits, so does the vCPU that prints, and nobody else. What `out` cannot take is lost, as on a line that nobody
    /// listens to; what it keeps to itself, so that the vCPU need not wait, it gets a chance to write (`flush`) before each
    /// later access.
    ///
    /// # Errors
    /// When no eventfd can be had.
    pub fn new(irq: EventFd, out: Box<dyn Write + Send>) -> io::Result<SerialPort> {
        let serial = Serial::new(Irq::default(), Sent::default());
        let uart = Uart {
            empty: serial.fifo_capacity(),
            serial,
            typed: Typed::default(),
        };
        Ok(SerialPort {
            uart: Mutex::new(uart),
            out: Mutex::new(out),
            irq,
            room: EventFd::new(vmm_sys_util::eventfd::EFD_NONBLOCK)?,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Uart> {
        self.uart.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Raises the interrupt if it is due; never blocks.
    fn interrupt(&self, uart: &Uart) {
        if uart.serial.interrupt_evt().0.take() {
            // A full counter is an interrupt as well.
            let _ = self.irq.write(1);
        }
    }

    fn after_access(&self, uart: &mut Uart) {
        uart.pump();
        self.interrupt(uart);
        if uart.typed.has_room_again() {
            // A full counter is as readable as any other.
            let _ = self.room.write(1);
        }
    }

    /// Hands a byte on, and waits for it.
    fn send(&self, byte: u8) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = out.write_all(&[byte]).and_then(|()| out.flush()) {
            tracing::debug!("serial port: {error}");
        }
    }

    /// Has the outlet write what it kept. Whoever holds it does so anyway.
    fn send_rest(&self) {
        if let Ok(mut out) = self.out.try_lock()
            && let Err(error) = out.flush()
        {
            tracing::debug!("serial port: {error}");
        }
    }
}

impl InputLine for SerialPort {
    fn input(&self, bytes: &[u8]) -> usize {
        let mut uart = self.lock();
        uart.pump();
        let taken = uart.typed.push(bytes);
        uart.pump();
        self.interrupt(&uart);
        taken
    }

    fn room(&self) -> &EventFd {
        &self.room
    }
}

impl BusDevice for SerialPort {
    fn read(&self, offset: u64, data: &mut [u8]) {
        self.send_rest();
        let mut uart = self.lock();
        for (port, byte) in (offset..).zip(data) {
            *byte = u8::try_from(port).map_or(0xff, |port| uart.serial.read(port));
        }
        self.after_access(&mut uart);
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        self.send_rest();
        for (port, byte) in (offset..).zip(data) {
            let Ok(port) = u8::try_from(port) else {
                break;
            };
            let mut uart = self.lock();
            // Neither its interrupt nor its output can fail.
            let _ = uart.serial.write(port, *byte);
            let sent = uart.serial.writer_mut().0.take();
            drop(uart);
            if let Some(byte) = sent {
                self.send(byte);
            }
            // Only now: a guest that hears that there is room for the next byte must not spin for it while the outlet waits.
            self.after_access(&mut self.lock());
        }
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
