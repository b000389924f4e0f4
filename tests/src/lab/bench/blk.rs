//! Disks at full speed: what a guest reads and writes past its page cache, and what that costs the host.
//!
//! Images lie in the lab host's memory, so that the VMMs are measured and no disk; each has its own, made in the same way.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::machine::{Guest, Vmm};
use super::pairs::{self, Contest};
use super::report::Report;
use crate::agent::disk::{Done, Load};
use crate::harness::{Error, Result};

/// The kinds of images.
const FORMATS: [&str; 2] = ["raw", "qcow2"];
/// Size of an image in MiB.
const SIZE: u64 = 64;
/// How long one measurement takes, and how long all of a kind may.
const MILLISECONDS: u64 = 1500;
const ROUNDS: Duration = Duration::from_secs(15);

/// What is done, and the unit in which its rate is told: bytes of it.
const LOADS: [(&str, Load, &str, f64); 4] = [
    (
        "random-read",
        load(false, true, 4 << 10),
        "kIO/s",
        4096.0 * 1000.0,
    ),
    (
        "random-write",
        load(true, true, 4 << 10),
        "kIO/s",
        4096.0 * 1000.0,
    ),
    ("read", load(false, false, 128 << 10), "MiB/s", 1_048_576.0),
    ("write", load(true, false, 128 << 10), "MiB/s", 1_048_576.0),
];

const fn load(writes: bool, random: bool, block: usize) -> Load {
    Load {
        writes,
        random,
        block,
        threads: 4,
        milliseconds: MILLISECONDS,
    }
}

/// What one VMM came to.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// Bytes a second.
    rate: f64,
    /// Processor time of the host in microseconds a block.
    cost: f64,
}

/// Measures.
pub fn measure(report: &mut Report<'_>) -> Result<()> {
    let directory = tempfile::tempdir().map_err(Error::file("create", Path::new("/tmp")))?;
    for format in FORMATS {
        let mut contest = Contest::of(|vmm| boot(vmm, format, &directory))?;
        for (name, load, unit, bytes) in LOADS {
            let pairs = contest.pairs(ROUNDS, |_, guest| take(guest, load))?;
            let name = format!("blk.{format}.{name}");
            pairs::report(report, &name, unit, &pairs, |taken| taken.rate / bytes);
            pairs::report(report, &format!("{name}-cpu"), "us/block", &pairs, |taken| {
                taken.cost
            });
        }
    }
    Ok(())
}

/// A guest with a disk that it has filled.
fn boot(vmm: Vmm, format: &str, directory: &TempDir) -> Result<Guest> {
    let path = directory.path().join(format!("{vmm}.{format}"));
    let status = Command::new("qemu-img")
        .args(["create", "-q", "-f", format])
        .arg(&path)
        .arg(format!("{SIZE}M"))
        .status()
        .map_err(Error::file("make", &path))?;
    if !status.success() {
        return Err(Error::Format {
            path,
            what: "image that qemu-img makes".to_owned(),
        });
    }
    let launch = vmm
        .stock()
        .line("-m 256M -smp 1 -device virtio-blk-pci,drive=d")
        .args([
            "-drive",
            &format!("file={},format={format},if=none,id=d", path.display()),
        ]);
    let mut guest = Guest::boot(launch, 1)?;
    guest
        .agent
        .exec("dd if=/dev/zero of=/dev/vda bs=1M oflag=direct 2>/dev/null; true")?;
    Ok(guest)
}

fn take(guest: &mut Guest, load: Load) -> Result<Taken> {
    let before = guest.threads.spent()?;
    let Done { blocks, took } = guest.agent.load_disk("/dev/vda", load)?;
    let spent = guest.threads.spent()?.since(before).host();
    let blocks = f64::from(u32::try_from(blocks).unwrap_or(u32::MAX)).max(1.0);
    let block = f64::from(u32::try_from(load.block).unwrap_or(u32::MAX));
    Ok(Taken {
        rate: blocks * block / took.as_secs_f64(),
        cost: spent.as_secs_f64() * 1e6 / blocks,
    })
}
