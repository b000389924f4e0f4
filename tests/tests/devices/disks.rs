//! What disks promise: what is written is read, what is flushed is there whatever happens, and images stay sound.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::agent::disk::Series;
use tests::harness::agent::Agent;
use tests::harness::qmp::Qmp;
use tests::harness::vm::Launch;
use tests::harness::{Error, Result};

use super::{PATIENCE, of_disk, stats};

/// How often a VMM is killed, and the disk that it writes to then, in MiB.
const KILLS: u64 = 12;
const KILLED_DISK: u64 = 64;

/// No block.
const NONE: [u64; 0] = [];
/// Short, for the guest that all devices share.
const SHORT: Series = Series {
    seed: 11,
    block: 64 << 10,
    count: 60,
    every: 25,
};

/// Runs `qemu-img` and returns what it says.
fn image_tool(arguments: &[&str]) -> Result<String> {
    let output = Command::new("qemu-img").args(arguments).output();
    let output = output.map_err(Error::file("run", Path::new("qemu-img")))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "qemu-img {arguments:?}: {}{text}{errors}",
        output.status
    );
    Ok(text)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap_or_default()
}

/// Checks that nothing in an image is counted less often than it is used. Clusters that nobody uses are no damage.
pub(super) fn sound(path: &Path) -> Result<()> {
    let output = Command::new("qemu-img")
        .args(["check", "-f", "qcow2", text(path)])
        .output();
    let output = output.map_err(Error::file("run", Path::new("qemu-img")))?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    // 3: leaked clusters and nothing else.
    assert!(
        matches!(output.status.code(), Some(0 | 3)),
        "{}: {said}",
        output.status
    );
    Ok(())
}

/// An empty image upon a compressed one, as a user makes them.
pub(super) fn layers(directory: &Path) -> Result<PathBuf> {
    let (raw, lower, upper) = (
        directory.join("layer.raw"),
        directory.join("lower"),
        directory.join("upper"),
    );
    std::fs::write(&raw, vec![0x5a; 8 << 20]).map_err(Error::file("write", &raw))?;
    image_tool(&[
        "convert",
        "-c",
        "-f",
        "raw",
        "-O",
        "qcow2",
        text(&raw),
        text(&lower),
    ])?;
    image_tool(&[
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        "lower",
        text(&upper),
        "16M",
    ])?;
    Ok(upper)
}

/// The guest sees what is under its disk, writes over it, and gives some back.
pub(super) fn written_in_layers<W: Write>(agent: &mut Agent<W>, qmp: &mut Qmp) -> Result<()> {
    let count = "dd if=/dev/vde bs=1M count=8 iflag=direct 2>/dev/null | tr -d '\\132' | wc -c";
    assert_eq!(
        agent.exec(count)?.trim(),
        "0",
        "the image under the disk reads otherwise"
    );
    let id = agent.write_disk("/dev/vde", SHORT)?;
    agent.disk_written(id)?;
    agent.verify_disk("/dev/vde", SHORT)?;
    assert!(of_disk(&stats(qmp)?, "q", "flush_operations") >= 3);
    let answer = qmp.command("query-block", Value::Null)?;
    let shown = answer
        .as_array()
        .into_iter()
        .flatten()
        .find(|disk| disk["device"] == "q");
    assert_eq!(
        shown.map(|disk| &disk["inserted"]["backing_file_depth"]),
        Some(&json!(1))
    );
    agent.exec("blkdiscard -o 8M -l 8M /dev/vde && blkdiscard -z -o 1M -l 70000 /dev/vde || true")?;
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn long_a_large_disk_holds_what_is_written() -> Result<()> {
    let directory = room()?;
    let [raw, layered] = ["raw", "qcow2"].map(|name| directory.path().join(name));
    image_tool(&["create", "-q", "-f", "raw", text(&raw), "1G"])?;
    image_tool(&["create", "-q", "-f", "qcow2", text(&layered), "1G"])?;
    let mut vm = Launch::stock()
        .line("-m 256 -smp 2")
        .args(["-drive", &format!("file={},format=raw,id=r", raw.display())])
        .args(["-drive", &format!("file={},format=qcow2,id=q", layered.display())])
        .qmp()
        .start()?;
    let mut agent = vm.boot()?;
    let mut qmp = vm.qmp()?;
    for (disk, drive) in [("/dev/vda", "r"), ("/dev/vdb", "q")] {
        for (seed, block, count) in [(1, 4096, 8192), (2, 256 << 10, 2500)] {
            let series = Series {
                seed,
                block,
                count,
                every: count / 8,
            };
            let id = agent.write_disk(disk, series)?;
            agent.disk_flushed(id)?;
            stopped_amid(&mut qmp, drive)?;
            agent.disk_written(id)?;
            agent.verify_disk(disk, series)?;
            if drive == "r" {
                assert_eq!(wrong(&raw, series, count, count)?, NONE);
            }
        }
    }
    agent.power_off()?;
    vm.wait(PATIENCE)?;
    sound(&layered)?;
    let last = Series {
        seed: 2,
        block: 256 << 10,
        count: 2500,
        every: 1,
    };
    assert_eq!(wrong(&flattened(&layered)?, last, last.count, last.count)?, NONE);
    Ok(())
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn long_what_is_flushed_survives_a_killed_vmm() -> Result<()> {
    let directory = room()?;
    for number in 0..KILLS {
        let format = if number.is_multiple_of(4) { "raw" } else { "qcow2" };
        let path = directory.path().join(format!("disk{number}"));
        let size = format!("{KILLED_DISK}M");
        // Small clusters have many tables.
        let options: &[&str] = match number % 4 {
            0 => &[],
            1 => &["-o", "cluster_size=512"],
            2 => &["-o", "cluster_size=4k"],
            _ => &["-o", "cluster_size=64k"],
        };
        let create = [&["create", "-q", "-f", format], options, &[text(&path), &size]].concat();
        image_tool(&create)?;
        let series = Series {
            seed: number,
            block: 16 << 10,
            count: 100_000,
            every: 40 + number * 7,
        };
        let mut vm = Launch::stock()
            .line("-m 128")
            .args(["-drive", &format!("file={},format={format}", path.display())])
            .start()?;
        let mut agent = vm.boot()?;
        let id = agent.write_disk("/dev/vda", series)?;
        let mut flushed = 0;
        for _ in 0..=number % 3 {
            flushed = agent.disk_flushed(id)?;
        }
        thread::sleep(Duration::from_micros(number * 17_731 % 90_000));
        vm.kill()?;
        // What the guest was told just before the end may not have come through to us: more is fine.
        let file = match format {
            "raw" => path.clone(),
            _ => {
                sound(&path)?;
                flattened(&path)?
            }
        };
        let lost = wrong(&file, series, flushed, series.count)?;
        assert_eq!(
            lost, NONE,
            "kill {number} ({format}): of {flushed} writes that were flushed"
        );
        for file in [file, path] {
            // One may be the other.
            let _ = std::fs::remove_file(file);
        }
    }
    Ok(())
}

/// A directory on a disk where there is one: the lab's own is memory too.
fn room() -> Result<TempDir> {
    tempfile::tempdir_in("/var/tmp")
        .or_else(|_| tempfile::tempdir())
        .map_err(Error::file("create", Path::new("/var/tmp")))
}

/// A raw copy of an image.
fn flattened(path: &Path) -> Result<PathBuf> {
    let raw = path.with_extension("flat");
    image_tool(&["convert", "-f", "qcow2", "-O", "raw", text(path), text(&raw)])?;
    Ok(raw)
}

/// The blocks of a raw image that are not what the first `flushed` writes left there; those that a later one of at most `sent`
/// may have changed count as right.
fn wrong(path: &Path, series: Series, flushed: u64, sent: u64) -> Result<Vec<u64>> {
    let file = File::open(path).map_err(Error::file("open", path))?;
    let size = file.metadata().map_err(Error::file("measure", path))?.len();
    let slots = size / series.block as u64;
    let mut changed: Vec<u64> = (flushed..sent).map(|number| series.slot(number, slots)).collect();
    // Nobody gets so far in the time there is.
    changed.truncate(2000);
    changed.sort_unstable();
    let (mut there, mut expected) = (vec![0; series.block], vec![0; series.block]);
    let mut wrong = Vec::new();
    for (slot, number) in series.last(flushed, slots) {
        if changed.binary_search(&slot).is_ok() {
            continue;
        }
        file.read_exact_at(&mut there, slot * series.block as u64)
            .map_err(Error::file("read", path))?;
        series.fill(&mut expected, number);
        if there != expected {
            wrong.push(slot);
        }
    }
    Ok(wrong)
}

/// Stops the machine amid writes: what is under way is finished, and then the disk is quiet until the machine goes on.
fn stopped_amid(qmp: &mut Qmp, drive: &str) -> Result<()> {
    qmp.command("stop", Value::Null)?;
    let mut last = None;
    super::until("a quiet disk", || {
        thread::sleep(Duration::from_millis(200));
        let now = of_disk(&stats(qmp)?, drive, "wr_bytes");
        Ok(last.replace(now) == Some(now))
    })?;
    qmp.command("cont", Value::Null)?;
    Ok(())
}
