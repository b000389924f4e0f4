//! Disks, as QMP shows them.

use std::fmt::Write;
use std::path::PathBuf;

use devices::virtio::blk::{BlkHandle, BlkSpec};
use serde_json::{Value, json};

use crate::config::Drive;

/// A disk of the machine.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The device.
    pub spec: BlkSpec,
    /// Its image.
    pub drive: Drive,
    /// The disk's size in bytes.
    pub size: u64,
    /// The files under its image, from the top.
    pub backing: Vec<PathBuf>,
    /// What it does.
    pub handle: BlkHandle,
}

/// `query-block`.
pub(super) fn block(disks: &[Disk]) -> Value {
    let one = |disk: &Disk| {
        let file = disk.drive.file.display().to_string();
        let format = disk.drive.format.name();
        let mut block = json!({
            "device": disk.drive.id,
            "qdev": disk.spec.id,
            "type": "unknown",
            "locked": false,
            "removable": false,
            "inserted": {
                "file": file,
                "node-name": disk.drive.id,
                "drv": format,
                "ro": disk.drive.read_only,
                "encrypted": false,
                "backing_file_depth": disk.backing.len(),
                "detect_zeroes": "off",
                "cache": { "writeback": true, "direct": false, "no-flush": false },
                "image": {
                    "filename": file,
                    "format": format,
                    "virtual-size": disk.size,
                },
            },
        });
        if let Some(backing) = disk.backing.first() {
            let backing = json!(backing.display().to_string());
            block["inserted"]["image"]["backing-filename"] = backing.clone();
            block["inserted"]["backing_file"] = backing;
        }
        block
    };
    disks.iter().map(one).collect()
}

/// `info block`.
pub(super) fn text(disks: &[Disk]) -> String {
    let mut text = String::new();
    for disk in disks {
        let (drive, stats) = (&disk.drive, disk.handle.stats());
        let read_only = if drive.read_only { ", read-only" } else { "" };
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{} (#{}): {} ({}{read_only})",
            drive.id,
            drive.id,
            drive.file.display(),
            drive.format.name(),
        );
        let _ = writeln!(text, "    Attached to:      /machine/peripheral/{}", disk.spec.id);
        let _ = writeln!(text, "    Cache mode:       writeback");
        for (index, backing) in disk.backing.iter().enumerate() {
            let depth = index + 1;
            let _ = writeln!(
                text,
                "    Backing file:     {} (chain depth: {depth})",
                backing.display()
            );
        }
        if stats.failed > 0 {
            let _ = writeln!(text, "    Failed requests:  {}", stats.failed);
        }
    }
    text
}

/// `query-blockstats`.
pub(super) fn stats(disks: &[Disk]) -> Value {
    let one = |disk: &Disk| {
        let stats = disk.handle.stats();
        json!({
            "device": disk.drive.id,
            "node-name": disk.drive.id,
            "qdev": disk.spec.id,
            "stats": {
                "rd_bytes": stats.read.0,
                "rd_operations": stats.read.1,
                "wr_bytes": stats.written.0,
                "wr_operations": stats.written.1,
                "unmap_bytes": stats.discarded.0,
                "unmap_operations": stats.discarded.1,
                "flush_operations": stats.flushes,
                "x-ballast-failed-operations": stats.failed,
            },
        })
    };
    disks.iter().map(one).collect()
}
