//! What a kernel finds where a PC's firmware would begin: a few instructions that reset the machine.
//!
//! Linux restarts a hardware-reduced machine through EFI; without EFI it goes back to real mode and jumps to
//! F000:FFF0 (`arch/x86/kernel/reboot.c`, `arch/x86/realmode/rm/reboot.S`), unless `reboot=` on its command line
//! says otherwise. Without code there the guest would run through its own memory and never come back.

use memory::layout::ACPI_END;

use crate::power::{RESET, RESET_VALUE};

/// Where it lies: the last 16 bytes below 1 MiB.
pub(crate) const RESET_VECTOR: u64 = ACPI_END - 16;

/// Real-mode code for [`RESET_VECTOR`].
pub(crate) fn code() -> Vec<u8> {
    let [low, high] = RESET.to_le_bytes();
    vec![
        0xba,
        low,
        high, // mov dx, RESET
        0xb0,
        RESET_VALUE, // mov al, RESET_VALUE
        0xee,        // out dx, al
        0xf4,        // hlt
        0xeb,
        0xfd, // jmp to the hlt
    ]
}

#[cfg(test)]
mod tests;
