//! The block of I/O ports at [`POWER_PORT`] as the guest is told of it: sleep, reset and events.
//!
//! | offset | bytes | register |
//! |---|---|---|
//! | 0 | 1 | sleep control (ACPI specification 6.5, section 4.8.3.7) |
//! | 1 | 1 | sleep status |
//! | 2 | 1 | reset |
//! | 4 | 4 | events of the Generic Event Device; cleared by reading |

use memory::layout::POWER_PORT;

/// Ports of the block.
pub(crate) const PORTS: u16 = 16;
pub(crate) const SLEEP_CONTROL: u16 = POWER_PORT;
pub(crate) const SLEEP_STATUS: u16 = POWER_PORT + 1;
pub(crate) const RESET: u16 = POWER_PORT + 2;
/// What resets the machine when it is written to [`RESET`].
pub(crate) const RESET_VALUE: u8 = 1;
pub(crate) const EVENTS: u16 = POWER_PORT + 4;
/// The bit of [`EVENTS`] for the power button.
pub(crate) const POWER_BUTTON: u8 = 1;
