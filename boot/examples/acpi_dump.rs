//! Writes the ACPI tables of a machine to files, for `iasl -d`:
//!
//! ```sh
//! cargo run -p boot --example acpi_dump -- DIR [VCPUS]
//! iasl -d DIR/*.aml
//! ```
use std::error::Error;
use std::path::PathBuf;

use boot::BootPlatform;
use memory::GuestRange;
use memory::layout::ACPI_START;
use vm_memory::GuestAddress;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let dir = PathBuf::from(args.next().ok_or("usage: acpi_dump DIR [VCPUS]")?);
    let vcpus: u32 = args
        .next()
        .and_then(|word| word.to_str()?.parse().ok())
        .unwrap_or(4);
    let platform = BootPlatform {
        apic_ids: (0..vcpus).collect(),
        vcpus: usize::try_from(vcpus)?,
        phys_bits: 46,
        pci64_window: Some(GuestRange {
            start: GuestAddress(1 << 45),
            len: 1 << 40,
        }),
        numa: None,
    };
    let bytes = boot::acpi::build(&platform)?;
    let word = |at: usize| {
        bytes
            .get(at..at + 4)
            .map(|word| [word[0], word[1], word[2], word[3]])
    };
    // The RSDP is first and has no common header; every other table starts on a multiple of 16 bytes.
    let mut at = 48;
    while let (Some(name), Some(length)) = (word(at), word(at + 4)) {
        let length = usize::try_from(u32::from_le_bytes(length))?;
        let name = String::from_utf8_lossy(&name).to_lowercase();
        let table = bytes.get(at..at + length).ok_or("a table is cut off")?;
        std::fs::write(dir.join(format!("{name}.aml")), table)?;
        println!("{name}: {length} bytes at {:#x}", ACPI_START + u64::try_from(at)?);
        at = (at + length).next_multiple_of(16);
    }
    Ok(())
}
