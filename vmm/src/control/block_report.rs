//! Disks, as QMP shows them.

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
    /// The image's size in bytes.
    pub size: u64,
    /// What it does.
    pub handle: BlkHandle,
}

/// `query-block`.
pub(super) fn block(disks: &[Disk]) -> Value {
    let one = |disk: &Disk| {
        let file = disk.drive.file.display().to_string();
        json!({
            "device": disk.drive.id,
            "qdev": disk.spec.id,
            "type": "unknown",
            "locked": false,
            "removable": false,
            "inserted": {
                "file": file,
                "node-name": disk.drive.id,
                "drv": "raw",
                "ro": disk.drive.read_only,
                "encrypted": false,
                "backing_file_depth": 0,
                "detect_zeroes": "off",
                "cache": { "writeback": true, "direct": false, "no-flush": false },
                "image": {
                    "filename": file,
                    "format": "raw",
                    "virtual-size": disk.size,
                },
            },
        })
    };
    disks.iter().map(one).collect()
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
