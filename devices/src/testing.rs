//! Test support: a driver for virtio-pci devices, fake interrupts and doorbells, small guest RAM, fuzz entries.
//!
//! Only with the feature `testing`. Everything here panics when a test's expectation fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "test support"
)]

mod driver;
mod fakes;
pub mod fuzz;
mod huge;
mod logged;
mod ram;

pub use driver::{Descriptor, Driver, DriverQueue};
pub use fakes::{FakeDoorbells, FakeVector};
pub use huge::HugePages;
pub use logged::logged;
pub use ram::{anonymous_ram, open_ram};

use std::time::{Duration, Instant};

/// How long a test waits for another thread before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `condition` holds; panics with `what` when it does not within [`PATIENCE`].
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}
