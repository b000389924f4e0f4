//! MCFG: where PCI configuration space is in memory (PCI Firmware Specification 3.3, section 4.1.2).

use acpi_tables::mcfg::MCFG;
use memory::layout::ECAM_START;

use super::{LAST_BUS, OEM_ID, OEM_REVISION, OEM_TABLE_ID, bytes};

/// One segment with one bus at [`ECAM_START`].
///
/// The whole window stays reserved, but no more buses are told than there are: Linux asks each device number of every bus up
/// to the last one told here whether somebody is there, which for 256 buses is 16 thousand exits, half the time of a boot.
pub(super) fn table() -> Vec<u8> {
    let mut mcfg = MCFG::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    mcfg.add_ecam(ECAM_START, 0, 0, LAST_BUS);
    bytes(&mcfg)
}
