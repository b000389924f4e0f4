//! QEMU itself, to compare with: its version, and the program with all that it loads in a lab host.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::image::Contents;
use super::{Error, Result, process};

/// The program.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// The programs for images: one makes and checks them, one serves them to other VMMs.
const IMAGES: [&str; 2] = ["qemu-img", "qemu-storage-daemon"];
/// The images that the machine `microvm` with a kernel of ours can ask for.
const FIRMWARE: [&str; 4] = ["bios-microvm.bin", "pvh.bin", "linuxboot_dma.bin", "kvmvapic.bin"];
/// Where they get in the lab host.
pub const FIRMWARE_PLACE: &str = "/usr/share/qemu";

/// `QEMU 7.2.22`, say.
pub fn version() -> Result<String> {
    let text = process::capture(Command::new(PROGRAM).arg("--version"))?;
    let mut words = text.split_whitespace().skip_while(|word| *word != "version");
    let number = words.nth(1).unwrap_or("of unknown version");
    Ok(format!("QEMU {number}"))
}

/// Adds `qemu-img` and `qemu-storage-daemon` to what a lab host holds.
pub fn add_images(contents: &mut Contents) -> Result<()> {
    for name in IMAGES {
        contents.installed(name)?;
    }
    Ok(())
}

/// Adds the program, its libraries and firmware to what a lab host holds.
pub fn add(contents: &mut Contents) -> Result<()> {
    let program = contents.installed(PROGRAM)?;
    let directories = process::capture(Command::new(&program).args(["-L", "help"]))?;
    for name in FIRMWARE {
        let found = directories
            .lines()
            .map(|directory| Path::new(directory).join(name))
            .find(|file| file.is_file());
        // Other versions of QEMU bring other firmware: what is missing and needed, QEMU names.
        if let Some(file) = found {
            let file = fs::canonicalize(&file).map_err(Error::file("find", &file))?;
            contents.files.push((Path::new(FIRMWARE_PLACE).join(name), file));
        }
    }
    Ok(())
}
