//! FADT: fixed hardware, which here is next to nothing (ACPI specification 6.5, section 5.2.9).

use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, bytes};
use crate::power::{RESET, RESET_VALUE, SLEEP_CONTROL, SLEEP_STATUS};

/// `IAPC_BOOT_ARCH` (table 5.11). The bits that say what *is* there stay clear: user-visible ISA devices (bit 0) and
/// a keyboard controller (bit 1). So does bit 3, "no MSI".
const NO_VGA: u16 = 1 << 2;
/// No root port has a link whose power could be managed.
const NO_PCIE_ASPM: u16 = 1 << 4;
const NO_CMOS_RTC: u16 = 1 << 5;

/// The table, with the guest address of the DSDT in it.
pub(super) fn table(dsdt: u64) -> Vec<u8> {
    let mut fadt = FADTBuilder::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        // These two mean: not a fixed register, but a device in the DSDT, or none.
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .flag(Flags::Wbinvd);
    fadt.sleep_control_reg = register(SLEEP_CONTROL);
    fadt.sleep_status_reg = register(SLEEP_STATUS);
    fadt.reset_reg = register(RESET);
    fadt.reset_value = RESET_VALUE;
    fadt.iapc_boot_arch = (NO_VGA | NO_PCIE_ASPM | NO_CMOS_RTC).into();
    bytes(&fadt.finalize())
}

/// A one-byte register in I/O space.
fn register(port: u16) -> GAS {
    GAS::new(
        AddressSpace::SystemIo,
        8,
        0,
        AccessSize::ByteAccess,
        u64::from(port),
    )
}
