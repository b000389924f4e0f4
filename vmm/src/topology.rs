//! How the vCPUs are arranged: sockets of cores, each core one vCPU.

use std::fmt;

/// xAPIC ids are 8 bits, 0xff is the broadcast, and one is left for the I/O APIC.
pub const MAX_APIC_ID: u32 = 253;

/// Sockets with the same number of cores. vCPUs are numbered socket by socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topology {
    sockets: u8,
    cores: u8,
}

impl Topology {
    /// `sockets` sockets of `cores` cores; `None` when there is none of them, or when an APIC id would be above
    /// [`MAX_APIC_ID`].
    #[must_use]
    pub fn new(sockets: u8, cores: u8) -> Option<Self> {
        let this = Self { sockets, cores };
        let count = u32::from(sockets) * u32::from(cores);
        let last = u8::try_from(count).ok()?.checked_sub(1)?;
        (this.apic_id(last) <= MAX_APIC_ID).then_some(this)
    }

    /// All vCPUs in one socket.
    #[must_use]
    pub fn one_socket(vcpus: u8) -> Option<Self> {
        Self::new(1, vcpus)
    }

    /// How many vCPUs there are, at least 1.
    #[must_use]
    pub fn vcpus(self) -> u8 {
        // `new` checked the product.
        self.sockets.saturating_mul(self.cores)
    }

    /// Cores of a socket.
    #[must_use]
    pub fn cores(self) -> u8 {
        self.cores
    }

    /// How many bits of an APIC id number the cores of a socket.
    #[must_use]
    pub fn core_bits(self) -> u32 {
        u32::from(self.cores).next_power_of_two().trailing_zeros()
    }

    /// The socket of a vCPU.
    #[must_use]
    pub fn socket(self, vcpu: u8) -> u8 {
        vcpu / self.cores.max(1)
    }

    /// The number of a vCPU in its socket.
    #[must_use]
    pub fn core(self, vcpu: u8) -> u8 {
        vcpu % self.cores.max(1)
    }

    /// The APIC id of a vCPU: the number of the socket above that of the core.
    #[must_use]
    pub fn apic_id(self, vcpu: u8) -> u32 {
        u32::from(self.socket(vcpu)) << self.core_bits() | u32::from(self.core(vcpu))
    }
}

/// One vCPU.
impl Default for Topology {
    fn default() -> Self {
        Self { sockets: 1, cores: 1 }
    }
}

/// `4 vCPUs in 2 sockets`.
impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} vCPUs in {} sockets", self.vcpus(), self.sockets)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counts_socket_by_socket() {
        let two = Topology::new(2, 3).unwrap();
        assert_eq!((two.vcpus(), two.core_bits()), (6, 2));
        let ids: Vec<_> = (0..6).map(|vcpu| two.apic_id(vcpu)).collect();
        assert_eq!(ids, [0, 1, 2, 4, 5, 6]);
        assert_eq!((two.socket(4), two.core(4)), (1, 1));
        let flat = Topology::one_socket(254).unwrap();
        assert_eq!((flat.vcpus(), flat.apic_id(253)), (254, 253));
    }

    #[test]
    fn refuses_none_and_too_many() {
        assert_eq!(Topology::new(0, 4), None);
        assert_eq!(Topology::new(4, 0), None);
        assert_eq!(Topology::new(16, 16), None);
        assert_eq!(Topology::one_socket(255), None);
        // 51 sockets of 5 cores are 255 vCPUs, but take 8 ids each.
        assert_eq!(Topology::new(51, 5), None);
    }

    proptest! {
        #[test]
        fn ids_are_unique_and_grow(sockets in 1_u8.., cores in 1_u8..) {
            let Some(topology) = Topology::new(sockets, cores) else { return Ok(()) };
            let ids: Vec<_> = (0..topology.vcpus()).map(|vcpu| topology.apic_id(vcpu)).collect();
            prop_assert!(ids.is_sorted_by(|a, b| a < b));
            prop_assert!(ids.iter().all(|id| *id <= MAX_APIC_ID));
        }
    }
}
