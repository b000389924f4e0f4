//! Asking for a balloon and waiting for it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::qmp::Qmp;
use super::vm::eventually;
use super::{Error, Result};

/// The device, as on the command line.
pub const DEVICE: [&str; 2] = ["-device", "virtio-balloon-pci,id=balloon0"];

/// Asks for a VM of this many bytes.
pub fn ask(qmp: &mut Qmp, target: u64) -> Result<()> {
    qmp.command("balloon", json!({ "value": target })).map(drop)
}

/// How large the VM is now, in bytes.
pub fn actual(qmp: &mut Qmp) -> Result<u64> {
    let answer = qmp.command("query-balloon", Value::Null)?;
    answer["actual"]
        .as_u64()
        .ok_or_else(|| Error::Connection(format!("no size in {answer}")))
}

/// Waits until the VM has this size, and tells how long that took.
pub fn wait(qmp: &mut Qmp, target: u64, patience: Duration) -> Result<Duration> {
    let start = Instant::now();
    if eventually(patience, || Ok(actual(qmp)? == target))? {
        return Ok(start.elapsed());
    }
    Err(Error::TimedOut {
        what: format!("balloon at {} MiB", target >> 20),
        patience,
        seen: format!("{} MiB", actual(qmp)? >> 20),
    })
}
