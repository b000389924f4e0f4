//! The guest's initramfs: busybox, the agent, `lspci`, `acpid`, `kexec`, `numactl`, and modules for the stock kernel. The tiny kernel
//! takes the same one and finds everything built in.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::archive::Archive;
use super::cache::{Cache, Key};
use super::paths::Paths;
use super::stock::Stock;
use super::{Error, Result, debian, elf, process};

/// Modules that a guest under the stock kernel loads.
const MODULES: [&str; 11] = [
    "virtio_pci",
    "virtio_balloon",
    "pvpanic_pci",
    "virtio_mem",
    "virtio_rng",
    "virtio_blk",
    "virtio_net",
    "virtio_console",
    "vmw_vsock_virtio_transport",
    "button",
    "evdev",
];
/// Programs, the packages that hold them, and where they stand in the guest.
const TOOLS: [(&str, &str, &str); 4] = [
    ("pciutils", "lspci", "/usr/bin/lspci"),
    ("acpid", "acpid", "/usr/sbin/acpid"),
    ("kexec-tools", "kexec", "/usr/sbin/kexec"),
    ("numactl", "numactl", "/usr/bin/numactl"),
];
/// Vendors whose names `lspci` knows in the guest; the whole list is too large for 64 MiB.
const VENDORS: [&str; 3] = ["1af4", "1b36", "8086"];
/// Where programs ask for their interpreter; Debian's looks for libraries elsewhere, where a link leads here.
const LIBRARIES: &str = "/lib64";
const DEBIAN_LIBRARIES: &str = "/lib/x86_64-linux-gnu";
/// What `acpid` does when the power button is pressed.
const POWER_BUTTON: &str = "event=button/power.*\naction=/bin/busybox poweroff -f\n";

/// Writes the initramfs.
pub fn write(paths: &Paths, cache: &Cache, stock: &Stock, agent: &Path, to: &Path) -> Result<()> {
    let busybox = process::find("busybox").ok_or_else(|| Error::Failed("there is no busybox".into()))?;
    let mut archive = Archive::create(to)?;
    for directory in ["/proc", "/sys", "/dev", "/tmp", "/run", "/sbin", "/var/run"] {
        archive.directory(directory)?;
    }
    archive.copy(agent, "/init")?;
    archive.copy(&busybox, "/bin/busybox")?;
    archive.symlink("busybox", "/bin/sh")?;
    archive.file("/etc/acpi/events/power", 0o644, POWER_BUTTON.as_bytes())?;

    let modules = stock.modules.closure(&MODULES)?;
    let directory = Path::new("/lib/modules").join(&stock.version);
    let list: String = modules
        .iter()
        .map(|module| format!("{}\n", module.file))
        .collect();
    archive.file(directory.join("list"), 0o644, list.as_bytes())?;
    for module in &modules {
        archive.file(directory.join(&module.file), 0o644, &module.bytes)?;
    }

    let tools = Tools::find(paths, cache)?;
    archive.symlink(LIBRARIES, DEBIAN_LIBRARIES)?;
    let mut libraries = BTreeMap::new();
    for (_, program, place) in TOOLS {
        libraries.extend(tools.add(&mut archive, program, place)?);
    }
    // Programs share most of theirs.
    for (name, library) in libraries {
        let file = fs::canonicalize(&library).map_err(Error::file("find", &library))?;
        archive.copy(&file, Path::new(LIBRARIES).join(name))?;
    }
    archive.file("/usr/share/misc/pci.ids", 0o644, tools.vendors()?.as_bytes())?;
    archive.finish()
}

/// Writes an initramfs with nothing but the agent, which can do there what needs no other program.
pub fn write_bare(agent: &Path, to: &Path) -> Result<()> {
    let mut archive = Archive::create(to)?;
    for directory in ["/proc", "/sys", "/dev", "/tmp", "/run"] {
        archive.directory(directory)?;
    }
    archive.copy(agent, "/init")?;
    archive.finish()
}

/// Where programs that are not ours come from: unpacked packages, or this machine itself.
struct Tools {
    root: PathBuf,
}

impl Tools {
    fn find(paths: &Paths, cache: &Cache) -> Result<Tools> {
        if !debian::here() {
            return Ok(Tools {
                root: PathBuf::from("/"),
            });
        }
        let names = TOOLS.map(|(package, ..)| package);
        let mut packages = debian::library_packages(&names)?;
        packages.extend(names.map(str::to_owned));
        packages.push("pci.ids".to_owned());
        let log = paths.logs().join("guest-tools.log");
        let key = Key::new().with(debian::identity(&packages)?);
        let root = cache.entry("guest-tools", key, |root| debian::unpack(&packages, root, &log))?;
        Ok(Tools { root })
    }

    fn file(&self, name: &str, directories: &[&str]) -> Option<PathBuf> {
        directories
            .iter()
            .map(|directory| self.root.join(directory).join(name))
            .find(|path| path.is_file())
    }

    /// Adds a program; the libraries that it needs, by name.
    fn add(&self, archive: &mut Archive, program: &str, place: &str) -> Result<BTreeMap<String, PathBuf>> {
        let found = self.file(program, &["usr/bin", "usr/sbin", "bin", "sbin"]);
        let path = found
            .ok_or_else(|| Error::Failed(format!("there is no {program} in {}", self.root.display())))?;
        archive.copy(&path, place)?;
        let directories = [
            "usr/lib/x86_64-linux-gnu",
            "lib/x86_64-linux-gnu",
            "usr/lib64",
            "lib64",
            "usr/lib",
            "lib",
        ];
        elf::libraries(&path, &directories.map(|directory| self.root.join(directory)))
    }

    /// The part of the list of PCI names that guests of ours can need.
    fn vendors(&self) -> Result<String> {
        let Some(path) = self.file("pci.ids", &["usr/share/misc", "usr/share/hwdata"]) else {
            return Ok(String::new());
        };
        let bytes = fs::read(&path).map_err(Error::file("read", &path))?;
        Ok(only(&String::from_utf8_lossy(&bytes), &VENDORS))
    }
}

/// The vendors wanted, with the indented lines below each, and the classes at the end.
fn only(list: &str, vendors: &[&str]) -> String {
    let mut wanted = false;
    let keep = |line: &&str| {
        if !line.starts_with('\t') {
            wanted = line.starts_with("C ") || vendors.iter().any(|vendor| line.starts_with(vendor));
        }
        wanted
    };
    list.lines()
        .filter(keep)
        .map(|line| format!("{line}\n"))
        .collect()
}

#[cfg(test)]
mod tests;
