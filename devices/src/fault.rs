//! Guest faults: what a guest did that no well-behaved guest does.
//!
//! A fault never stops the VMM. It is counted by kind, logged at a bounded rate, and answered by the device that
//! met it. Host errors are something else and never end up here.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The least time between two log lines about the same kind of fault, in milliseconds.
const LOG_INTERVAL_MS: u64 = 1000;

/// `last_logged` before the first line.
const NEVER: u64 = u64::MAX;

/// Something that a guest did wrong, with what one needs to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestFault {
    /// An access to an I/O port where no device is.
    UnknownPort {
        /// The port.
        port: u64,
    },
    /// An access to a guest-physical address where neither RAM nor a device is.
    UnknownMmio {
        /// The guest-physical address.
        address: u64,
    },
    /// An access to a device register that does not exist or not in this width.
    Register {
        /// The device.
        device: &'static str,
        /// Offset of the access in the device's registers.
        offset: u64,
    },
    /// An access to PCI configuration space outside the registers of a function, or a write that it cannot take.
    PciConfig {
        /// Offset in the function's configuration space.
        offset: u64,
    },
    /// A virtio register access that is out of bounds, of a wrong width, or not allowed in the device's state.
    VirtioRegister {
        /// Offset in the device's BAR.
        offset: u64,
    },
    /// A status that cannot follow the current one (virtio 1.2, §3.1).
    VirtioStatus {
        /// The status that the device is in.
        from: u8,
        /// What the driver wrote.
        to: u8,
    },
    /// Features accepted that were not offered, or VIRTIO_F_VERSION_1 not accepted.
    VirtioFeatures {
        /// The features that the driver accepted.
        accepted: u64,
    },
    /// A queue whose rings cannot be used; the device then needs a reset.
    VirtioQueue {
        /// The queue's index.
        queue: u16,
    },
    /// A descriptor chain that is broken, too long, or goes the wrong way; it is returned unused.
    VirtioChain {
        /// The queue's index.
        queue: u16,
    },
    /// A balloon descriptor longer than 256 page numbers, or not a whole number of them.
    BalloonLength {
        /// The descriptor's length in bytes.
        length: u32,
    },
    /// A reported free page that does not fit into what one kick may report.
    BalloonReport {
        /// Its length in bytes.
        length: u32,
    },
    /// Balloon statistics longer than 256 entries.
    BalloonStats {
        /// Length in bytes of the descriptor that did not fit.
        length: u32,
    },
    /// Balloon pages that lie outside RAM.
    BalloonOutside {
        /// How many bytes lay outside.
        bytes: u64,
    },
    /// A frame for a network that is too short or too long, or whose header makes no sense; it is not sent.
    NetFrame {
        /// Its length in bytes, with the header.
        length: u64,
    },
    /// A packet for a socket that no driver sends, or not now; its connection is reset.
    VsockPacket {
        /// The port that it was for.
        port: u32,
    },
}

/// The names under which faults are counted, in the order of [`GuestFault::index`].
const NAMES: [&str; 15] = [
    "unknown-port",
    "unknown-mmio",
    "register",
    "pci-config",
    "virtio-register",
    "virtio-status",
    "virtio-features",
    "virtio-queue",
    "virtio-chain",
    "balloon-length",
    "balloon-report",
    "balloon-stats",
    "balloon-outside",
    "net-frame",
    "vsock-packet",
];

impl GuestFault {
    /// Place of this kind in [`NAMES`].
    fn index(self) -> usize {
        match self {
            GuestFault::UnknownPort { .. } => 0,
            GuestFault::UnknownMmio { .. } => 1,
            GuestFault::Register { .. } => 2,
            GuestFault::PciConfig { .. } => 3,
            GuestFault::VirtioRegister { .. } => 4,
            GuestFault::VirtioStatus { .. } => 5,
            GuestFault::VirtioFeatures { .. } => 6,
            GuestFault::VirtioQueue { .. } => 7,
            GuestFault::VirtioChain { .. } => 8,
            GuestFault::BalloonLength { .. } => 9,
            GuestFault::BalloonReport { .. } => 10,
            GuestFault::BalloonStats { .. } => 11,
            GuestFault::BalloonOutside { .. } => 12,
            GuestFault::NetFrame { .. } => 13,
            GuestFault::VsockPacket { .. } => 14,
        }
    }

    /// The name under which this kind is counted.
    #[must_use]
    pub fn name(self) -> &'static str {
        NAMES[self.index()]
    }
}

impl fmt::Display for GuestFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            GuestFault::UnknownPort { port } => write!(f, "no device at port {port:#x}"),
            GuestFault::UnknownMmio { address } => write!(f, "nothing at guest address {address:#x}"),
            GuestFault::Register { device, offset } => {
                write!(f, "{device} has no such register at offset {offset:#x}")
            }
            GuestFault::PciConfig { offset } => write!(f, "bad access to PCI configuration at {offset:#x}"),
            GuestFault::VirtioRegister { offset } => write!(f, "bad access to virtio register {offset:#x}"),
            GuestFault::VirtioStatus { from, to } => {
                write!(f, "virtio status {to:#x} cannot follow {from:#x}")
            }
            GuestFault::VirtioFeatures { accepted } => {
                write!(f, "virtio features {accepted:#x} cannot be accepted")
            }
            GuestFault::VirtioQueue { queue } => write!(f, "rings of virtqueue {queue} cannot be used"),
            GuestFault::VirtioChain { queue } => write!(f, "bad descriptor chain in virtqueue {queue}"),
            GuestFault::BalloonLength { length } => {
                write!(
                    f,
                    "balloon descriptor of {length} bytes, expected up to 256 page numbers of 4 bytes"
                )
            }
            GuestFault::BalloonReport { length } => {
                write!(f, "free page of {length} bytes reported beyond 1 GiB in one kick")
            }
            GuestFault::BalloonStats { length } => {
                write!(f, "balloon statistics of {length} bytes beyond 256 entries")
            }
            GuestFault::BalloonOutside { bytes } => {
                write!(f, "balloon pages of {bytes} bytes outside RAM")
            }
            GuestFault::NetFrame { length } => write!(f, "no network frame: {length} bytes with the header"),
            GuestFault::VsockPacket { port } => write!(f, "no packet for a socket at port {port}"),
        }
    }
}

#[derive(Debug)]
struct Counter {
    count: AtomicU64,
    /// Milliseconds after `Faults::start` of the last log line, or [`NEVER`].
    last_logged: AtomicU64,
}

/// Counts of guest faults by kind, shared by every device of a machine.
#[derive(Debug)]
pub struct Faults {
    start: Instant,
    counters: [Counter; NAMES.len()],
}

impl Default for Faults {
    fn default() -> Faults {
        Faults::new()
    }
}

impl Faults {
    /// All counts zero.
    #[must_use]
    pub fn new() -> Faults {
        let zero = |_| Counter {
            count: AtomicU64::new(0),
            last_logged: AtomicU64::new(NEVER),
        };
        Faults {
            start: Instant::now(),
            counters: std::array::from_fn(zero),
        }
    }

    /// Counts `fault`, and logs it unless one of its kind was logged in the last second.
    pub fn count(&self, fault: GuestFault) {
        let counter = &self.counters[fault.index()];
        let count = counter.count.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(NEVER - 1);
        let last = counter.last_logged.load(Ordering::Relaxed);
        let due = last == NEVER || now.saturating_sub(last) >= LOG_INTERVAL_MS;
        // Of several threads that find the line due, one writes it.
        let mine = || {
            counter
                .last_logged
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
        };
        if due && mine().is_ok() {
            // Kernels probe for devices that are not there: nothing that the user of a healthy guest wants to read.
            if matches!(
                fault,
                GuestFault::UnknownPort { .. } | GuestFault::UnknownMmio { .. }
            ) {
                tracing::info!(kind = fault.name(), count, "guest fault: {fault}");
            } else {
                tracing::warn!(kind = fault.name(), count, "guest fault: {fault}");
            }
        }
    }

    /// Name and count of every kind, those at zero included, in a fixed order.
    #[must_use]
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let count = |counter: &Counter| counter.count.load(Ordering::Relaxed);
        NAMES
            .iter()
            .zip(&self.counters)
            .map(|(name, counter)| (*name, count(counter)))
            .collect()
    }

    /// The count of the kind called `name`, or `None` where there is no such kind.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.counts()
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, count)| count)
    }
}

#[cfg(test)]
mod tests;
