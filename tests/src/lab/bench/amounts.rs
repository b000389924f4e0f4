//! How much memory the guests of the balloon's figures have.

use std::fs;
use std::path::Path;

use crate::harness::{Error, Result};

/// Sizes in MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amounts {
    /// The guest's RAM.
    pub ram: u64,
    /// How much of it is taken.
    pub taken: u64,
    /// How much the guest writes before, so that the host holds what is taken.
    pub touched: u64,
}

/// In an emulated host writing memory takes most of the time, and costs so much that little is enough to measure.
const EMULATED: Amounts = Amounts {
    ram: 256,
    taken: 128,
    touched: 160,
};
const REAL: Amounts = Amounts {
    ram: 1536,
    taken: 1024,
    touched: 1152,
};
/// In the name of an emulated processor.
const EMULATOR: &str = "QEMU TCG";

impl Amounts {
    /// For guests of this host.
    pub fn here() -> Result<Amounts> {
        let path = Path::new("/proc/cpuinfo");
        let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
        Ok(if text.contains(EMULATOR) { EMULATED } else { REAL })
    }

    /// The guest's size while its balloon is full.
    pub fn left(self) -> u64 {
        self.ram - self.taken
    }
}
