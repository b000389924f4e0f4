//! Power registers: sleep and reset of hardware-reduced ACPI, the power button, and reset by port 0x64.
//!
//! Layout of [`Power`], a block of 16 I/O ports; the ACPI tables name the same offsets:
//!
//! | offset | width | register |
//! |---|---|---|
//! | 0 | 1 | sleep control (ACPI 6.5, §4.8.3.7): a write with SLP_EN powers off |
//! | 1 | 1 | sleep status: always 0 |
//! | 2 | 1 | reset: writing 1 resets |
//! | 4 | 4 | events of the Generic Event Device: bit 0 power button; a read clears |

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use vmm_sys_util::eventfd::EventFd;

use crate::action::Action;
use crate::bus::BusDevice;

/// Ports in the block.
pub const POWER_PORTS: u64 = 16;
/// Offset of the sleep control register.
pub const SLEEP_CONTROL: u64 = 0;
/// Offset of the sleep status register.
pub const SLEEP_STATUS: u64 = 1;
/// Offset of the reset register.
pub const RESET: u64 = 2;
/// What to write to the reset register.
pub const RESET_VALUE: u8 = 1;
/// Offset of the event register, 4 bytes.
pub const GED_EVENTS: u64 = 4;
/// Event bit: the power button was pressed.
pub const GED_POWER_BUTTON: u32 = 1;

/// SLP_EN of the sleep control register.
const SLEEP_ENABLE: u8 = 1 << 5;

/// The ACPI power registers and the power button.
#[derive(Debug)]
pub struct Power {
    /// Events that the guest has not read yet.
    events: AtomicU32,
    ged_irq: EventFd,
}

impl Power {
    /// Registers with no event pending; `ged_irq` raises the event device's interrupt.
    #[must_use]
    pub fn new(ged_irq: EventFd) -> Power {
        Power {
            events: AtomicU32::new(0),
            ged_irq,
        }
    }

    /// Presses the power button: what the guest makes of it is its own affair.
    ///
    /// # Errors
    /// When the interrupt cannot be raised; the event stays pending.
    pub fn press_power_button(&self) -> io::Result<()> {
        self.events.fetch_or(GED_POWER_BUTTON, Ordering::SeqCst);
        self.ged_irq.write(1)
    }
}

impl BusDevice for Power {
    fn read(&self, offset: u64, data: &mut [u8]) {
        data.fill(0);
        // Only the whole register: a narrower read would clear events that it does not report.
        if offset == GED_EVENTS && data.len() == 4 {
            data.copy_from_slice(&self.events.swap(0, Ordering::SeqCst).to_le_bytes());
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Action {
        match (offset, data) {
            // S5 is the only sleep state that the tables name, so its type needs no check.
            (SLEEP_CONTROL, [value]) if value & SLEEP_ENABLE != 0 => Action::PowerOff,
            (RESET, [RESET_VALUE]) => Action::Reset,
            _ => Action::None,
        }
    }

    /// No event pending.
    fn reset(&self) {
        self.events.store(0, Ordering::SeqCst);
    }
}

/// The one command of a keyboard controller that kernels fall back on: 0xFE at port 0x64 resets the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyboardReset;

/// Where [`KeyboardReset`] belongs: one port.
pub const KEYBOARD_PORT: u64 = 0x64;

impl BusDevice for KeyboardReset {
    /// Status: no byte waiting either way, else a kernel waits before it sends the command.
    fn read(&self, _offset: u64, data: &mut [u8]) {
        data.fill(0);
    }

    fn write(&self, _offset: u64, data: &[u8]) -> Action {
        if data == [0xfe] {
            Action::Reset
        } else {
            Action::None
        }
    }

    /// It remembers nothing.
    fn reset(&self) {}
}

#[cfg(test)]
mod tests;
