//! How the vCPUs are arranged: sockets of cores of threads, each thread one vCPU.

use std::fmt;

/// xAPIC ids are 8 bits, and 0xff is the broadcast.
pub const MAX_APIC_ID: u32 = 254;
/// Most vCPUs: one id is left for the I/O APIC.
pub const MAX_VCPUS: u8 = 254;

/// Sockets with the same number of cores, and cores with the same number of threads. Places for vCPUs are numbered thread by thread,
/// core by core, socket by socket; the first of them have a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    sockets: u8,
    cores: u8,
    threads: u8,
    vcpus: u8,
}

impl Topology {
    /// `sockets` sockets of `cores` cores of `threads` threads, with a vCPU each; `None` when there is none of them, when there are more
    /// than [`MAX_VCPUS`], or when an APIC id would be above [`MAX_APIC_ID`].
    #[must_use]
    pub fn new(sockets: u8, cores: u8, threads: u8) -> Option<Self> {
        let places = sockets.checked_mul(cores)?.checked_mul(threads)?;
        let this = Self {
            sockets,
            cores,
            threads,
            vcpus: places,
        };
        let last = places.checked_sub(1)?;
        (places <= MAX_VCPUS && this.apic_id(last) <= MAX_APIC_ID).then_some(this)
    }

    /// All vCPUs in one socket.
    #[must_use]
    pub fn one_socket(vcpus: u8) -> Option<Self> {
        Self::new(1, vcpus, 1)
    }

    /// The same places, but only the first `vcpus` have a vCPU; `None` when those are none, or more than there are places.
    #[must_use]
    pub fn with_vcpus(self, vcpus: u8) -> Option<Self> {
        (1..=self.places())
            .contains(&vcpus)
            .then_some(Self { vcpus, ..self })
    }

    /// How many vCPUs there are, at least 1.
    #[must_use]
    pub fn vcpus(self) -> u8 {
        self.vcpus
    }

    /// How many places for vCPUs there are, at least as many as vCPUs.
    #[must_use]
    pub fn places(self) -> u8 {
        // `new` checked the product.
        self.sockets.saturating_mul(self.in_socket())
    }

    /// Places of a socket.
    #[must_use]
    pub fn in_socket(self) -> u8 {
        self.cores.saturating_mul(self.threads)
    }

    /// Threads of a core.
    #[must_use]
    pub fn threads(self) -> u8 {
        self.threads
    }

    /// How many bits of an APIC id number the threads of a core.
    #[must_use]
    pub fn thread_bits(self) -> u32 {
        bits_for(self.threads)
    }

    /// How many bits of an APIC id number the threads of a socket.
    #[must_use]
    pub fn socket_bits(self) -> u32 {
        bits_for(self.cores) + self.thread_bits()
    }

    /// The socket of a vCPU.
    #[must_use]
    pub fn socket(self, vcpu: u8) -> u8 {
        vcpu / self.in_socket().max(1)
    }

    /// The number of a vCPU's core in its socket.
    #[must_use]
    pub fn core(self, vcpu: u8) -> u8 {
        vcpu % self.in_socket().max(1) / self.threads.max(1)
    }

    /// The number of a vCPU in its core.
    #[must_use]
    pub fn thread(self, vcpu: u8) -> u8 {
        vcpu % self.threads.max(1)
    }

    /// The APIC id of a vCPU: the number of the socket above that of the core above that of the thread.
    #[must_use]
    pub fn apic_id(self, vcpu: u8) -> u32 {
        u32::from(self.socket(vcpu)) << self.socket_bits()
            | u32::from(self.core(vcpu)) << self.thread_bits()
            | u32::from(self.thread(vcpu))
    }
}

/// Bits that number so many.
fn bits_for(count: u8) -> u32 {
    u32::from(count).next_power_of_two().trailing_zeros()
}

/// One vCPU.
impl Default for Topology {
    fn default() -> Self {
        Self {
            sockets: 1,
            cores: 1,
            threads: 1,
            vcpus: 1,
        }
    }
}

/// `4 vCPUs in 2 sockets`, `2 of 4 vCPUs in 2 sockets`.
impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.vcpus < self.places() {
            write!(f, "{} of ", self.vcpus)?;
        }
        write!(f, "{} vCPUs in {} sockets", self.places(), self.sockets)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_socket_by_socket() {
        let two = Topology::new(2, 3, 1).unwrap();
        assert_eq!((two.vcpus(), two.socket_bits(), two.thread_bits()), (6, 2, 0));
        let ids: Vec<_> = (0..6).map(|vcpu| two.apic_id(vcpu)).collect();
        assert_eq!(ids, [0, 1, 2, 4, 5, 6]);
        assert_eq!((two.socket(4), two.core(4), two.thread(4)), (1, 1, 0));
        let flat = Topology::one_socket(254).unwrap();
        assert_eq!((flat.vcpus(), flat.apic_id(253)), (254, 253));
    }

    #[test]
    fn counts_thread_by_thread() {
        let threads = Topology::new(2, 3, 2).unwrap();
        assert_eq!((threads.socket_bits(), threads.thread_bits()), (3, 1));
        let ids: Vec<_> = (0..12).map(|vcpu| threads.apic_id(vcpu)).collect();
        assert_eq!(ids, [0, 1, 2, 3, 4, 5, 8, 9, 10, 11, 12, 13]);
        assert_eq!((threads.socket(9), threads.core(9), threads.thread(9)), (1, 1, 1));
        let three = Topology::new(1, 2, 3).unwrap();
        assert_eq!(
            (3..6).map(|vcpu| three.apic_id(vcpu)).collect::<Vec<_>>(),
            [4, 5, 6]
        );
    }

    #[test]
    fn refuses_none_and_too_many() {
        assert_eq!(Topology::new(0, 4, 1), None);
        assert_eq!(Topology::new(4, 0, 1), None);
        assert_eq!(Topology::new(4, 1, 0), None);
        assert_eq!(Topology::new(16, 16, 1), None);
        assert_eq!(Topology::one_socket(255), None);
        // 51 sockets of 5 cores are 255 vCPUs, but take 8 ids each.
        assert_eq!(Topology::new(51, 5, 1), None);
        assert_eq!(Topology::new(1, 85, 3), None);
        assert_eq!(Topology::new(2, 127, 1).unwrap().apic_id(253), 254);
    }

    #[test]
    fn has_places_without_vcpus() {
        let half = Topology::new(2, 2, 2).unwrap().with_vcpus(3).unwrap();
        assert_eq!((half.vcpus(), half.places()), (3, 8));
        assert_eq!(half.to_string(), "3 of 8 vCPUs in 2 sockets");
        assert_eq!(half.with_vcpus(0), None);
        assert_eq!(half.with_vcpus(9), None);
        assert_eq!(half.with_vcpus(8), Topology::new(2, 2, 2));
    }

    proptest! {
        #[test]
        fn ids_are_unique_and_grow(sockets in 1_u8.., cores in 1_u8.., threads in 1_u8..9) {
            let Some(topology) = Topology::new(sockets, cores, threads) else { return Ok(()) };
            let ids: Vec<_> = (0..topology.places()).map(|vcpu| topology.apic_id(vcpu)).collect();
            prop_assert!(ids.is_sorted_by(|a, b| a < b));
            prop_assert!(ids.iter().all(|id| *id <= MAX_APIC_ID));
        }
    }
}
