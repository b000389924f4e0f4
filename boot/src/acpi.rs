//! The ACPI tables: how a stock kernel learns of CPUs, interrupts, the PCI root, the serial port and the power button.
//!
//! The machine is *hardware-reduced* (ACPI specification 6.5, section 4.1): no PM timer, no SCI, no legacy interrupt
//! controller that the guest would use; events come by a Generic Event Device, sleep and reset by plain registers.
//! A guest with NUMA nodes also has SRAT and SLIT.

use acpi_tables::rsdp::Rsdp;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, sdt::Sdt};
use memory::layout::ACPI_START;
use thiserror::Error;

use crate::BootPlatform;
use crate::reset_vector::RESET_VECTOR;

mod dsdt;
mod fadt;
mod madt;
mod mcfg;
mod slit;
mod srat;

/// The last bus of the only PCI segment.
const LAST_BUS: u8 = 0;
/// Who made the tables, as the kernel prints it for each.
const OEM_ID: [u8; 6] = *b"BALLST";
const OEM_TABLE_ID: [u8; 8] = *b"BALLAST ";
const OEM_REVISION: u32 = 1;

/// The room for all tables.
const ROOM: u64 = RESET_VECTOR - ACPI_START;
/// The specification asks for nothing but bytes; kernels read tables faster when they are aligned.
const ALIGNMENT: u64 = 16;
/// The highest APIC id and UID that the entries for xAPICs have room for; 255 means "all".
const MAX_XAPIC: u32 = 254;
/// A processor's name in the DSDT has three hexadecimal digits.
const MAX_CPUS: usize = 0x1000;

/// Why the tables cannot be made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum AcpiError {
    /// The tables are larger than their place below 1 MiB.
    #[error("the ACPI tables take {size} bytes, there is room for {ROOM}")]
    Place {
        /// Bytes of all tables.
        size: u64,
    },
    /// More vCPUs than the tables can name.
    #[error("{count} vCPUs are more than the {MAX_CPUS} that the ACPI tables can name")]
    NameCpus {
        /// The number of vCPUs.
        count: usize,
    },
}

/// All tables as the bytes that belong at [`ACPI_START`]. The RSDP is first.
///
/// # Errors
///
/// When there are more vCPUs than names or room for them.
pub fn build(platform: &BootPlatform) -> Result<Vec<u8>, AcpiError> {
    if platform.apic_ids.len() > MAX_CPUS {
        return Err(AcpiError::NameCpus {
            count: platform.apic_ids.len(),
        });
    }
    let mut area = Area {
        bytes: vec![0; Rsdp::len()],
    };
    let dsdt = area.append(&dsdt::table(platform));
    let mut xsdt = XSDT::new(OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    for table in tables(platform, dsdt) {
        xsdt.add_entry(area.append(&table));
    }
    let xsdt = area.append(&bytes(&xsdt));
    let rsdp = bytes(&Rsdp::new(OEM_ID, xsdt));
    area.bytes.splice(..rsdp.len(), rsdp);

    let size = length(&area.bytes);
    if size > ROOM {
        Err(AcpiError::Place { size })
    } else {
        Ok(area.bytes)
    }
}

/// The tables that the XSDT lists. `dsdt` is the guest address of the DSDT, which the FADT holds.
fn tables(platform: &BootPlatform, dsdt: u64) -> Vec<Vec<u8>> {
    let mut tables = vec![fadt::table(dsdt), madt::table(platform), mcfg::table()];
    if let Some(numa) = &platform.numa {
        tables.extend([srat::table(platform, numa), slit::table(numa)]);
    }
    tables
}

/// The bytes from [`ACPI_START`] on, as far as they are filled.
struct Area {
    bytes: Vec<u8>,
}

impl Area {
    /// Adds a table; gives its guest address.
    fn append(&mut self, table: &[u8]) -> u64 {
        let offset = length(&self.bytes).next_multiple_of(ALIGNMENT);
        while length(&self.bytes) < offset {
            self.bytes.push(0);
        }
        self.bytes.extend_from_slice(table);
        ACPI_START + offset
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn bytes(aml: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    aml.to_aml_bytes(&mut bytes);
    bytes
}

/// A table of our own making: the common header, then `content`.
fn table(signature: [u8; 4], revision: u8, content: &[u8]) -> Vec<u8> {
    let mut table = Sdt::new(signature, 36, revision, OEM_ID, OEM_TABLE_ID, OEM_REVISION);
    table.append_slice(content);
    table.as_slice().to_vec()
}

#[cfg(test)]
mod tests;
