//! A whole distribution on a disk: Debian with its own kernel, made once from its archive.

use std::path::Path;
use std::process::Command;

use super::cache::{Cache, Key};
use super::image::Contents;
use super::paths::Paths;
use super::setup::{self, Purpose};
use super::{Error, Result, process};
use crate::harness::names;

/// The release; its kernel is Linux 6.1.
const SUITE: &str = "bookworm";
/// What it has besides the packages without which it would be no Debian.
const PACKAGES: &str =
    "systemd-sysv,udev,dbus,linux-image-cloud-amd64,initramfs-tools,zstd,iproute2,openssh-server,stress-ng";
/// Files that only weigh.
const WITHOUT: [&str; 3] = ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*"];
/// The scripts that finish the system, and make the disk.
const SCRIPTS: [&str; 2] = ["debian/customize.sh", "debian/disk.sh"];
/// What they make, and where it gets in a lab host.
const FILES: [(&str, &str); 4] = [
    ("disk.qcow2", names::DISTRIBUTION),
    ("vmlinuz", names::DISTRIBUTION_KERNEL),
    ("initrd.img", names::DISTRIBUTION_INITRD),
    ("key", names::DISTRIBUTION_KEY),
];

/// Adds the disk to what a lab host holds, with all that it takes to boot it, and `ssh` to log in.
pub fn add(contents: &mut Contents, paths: &Paths) -> Result<()> {
    setup::ensure(Purpose::Distribution, paths)?;
    let [customize, disk] = SCRIPTS.map(|script| paths.resource(script));
    let mut key = Key::new().with(SUITE).with(PACKAGES);
    for script in [&customize, &disk] {
        key = key.with(std::fs::read(script).map_err(Error::file("read", script))?);
    }
    let made = Cache::new(paths.lab()).entry("distribution", key, |to| {
        println!("lab: making a disk with Debian, which takes some minutes");
        make(to, &customize, &disk, &paths.logs())
    })?;
    let files = FILES.map(|(name, place)| (place.into(), made.join(name)));
    contents.files.extend(files);
    contents.installed("ssh").map(drop)
}

/// Makes [`FILES`] in a directory.
fn make(to: &Path, customize: &Path, disk: &Path, logs: &Path) -> Result<()> {
    let mut system = Command::new("mmdebstrap");
    system.args(["--variant=minbase", &format!("--include={PACKAGES}")]);
    for files in WITHOUT {
        system.arg(format!("--dpkgopt=path-exclude={files}"));
    }
    system.arg(format!("--customize-hook={}", customize.display()));
    system.arg(SUITE).arg(to.join("system.tar"));
    process::logged(&mut system, &logs.join("distribution.log"))?;

    let mut image = if rustix::process::geteuid().is_root() {
        Command::new(disk)
    } else {
        let mut image = Command::new("fakeroot");
        image.arg(disk);
        image
    };
    process::logged(image.current_dir(to), &logs.join("distribution-disk.log"))
}
