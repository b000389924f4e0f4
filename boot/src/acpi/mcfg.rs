//! MCFG: where PCI configuration space is in memory (PCI Firmware Specification 3.3, section 4.1.2).

use acpi_tables::mcfg::MCFG;
use memory::layout::ECAM_START;

use super::{OEM_ID, OEM_REVISION, OEM_TABLE_ID, bytes};

/// One segment with 256 buses at [`ECAM_START`].
pub(super) fn table() -> Vec<u8> {
    let mut mcfg = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    mcfg.add_ecam(ECAM_START, 0, 0, u8::MAX);
    bytes(&mcfg)
}
