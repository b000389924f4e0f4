//! What the host has: nodes, huge page pools, limits, KSM, transparent huge pages, pressure. Read only.

pub mod cgroup;
pub mod cpus;
pub mod hugepages;
pub mod ksm;
mod list;
pub mod meminfo;
pub mod numa;
pub mod pressure;
pub mod thp;

use std::fs;
use std::io;
use std::path::Path;

/// The number in a file of one line, as those of /sys.
fn read_number(path: &Path) -> io::Result<u64> {
    let text = fs::read_to_string(path)?;
    (text.trim().parse()).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not a number"))
}
