//! What card and driver agree on, and the address.

use std::fmt;
use std::str::FromStr;

use crate::net::Offloads;

/// VIRTIO_NET_F_CSUM: the driver may leave checksums to us.
pub const F_CSUM: u64 = 1 << 0;
/// VIRTIO_NET_F_GUEST_CSUM: we may leave checksums to the driver.
pub const F_GUEST_CSUM: u64 = 1 << 1;
/// VIRTIO_NET_F_MTU: the configuration says how large packets may be.
pub const F_MTU: u64 = 1 << 3;
/// VIRTIO_NET_F_MAC: the configuration has the address.
pub const F_MAC: u64 = 1 << 5;
/// VIRTIO_NET_F_GUEST_TSO4: we may hand over TCP over IPv4 that is not cut into packets.
pub const F_GUEST_TSO4: u64 = 1 << 7;
/// VIRTIO_NET_F_GUEST_TSO6: as before, over IPv6.
pub const F_GUEST_TSO6: u64 = 1 << 8;
/// VIRTIO_NET_F_GUEST_ECN: as before, with ECN.
pub const F_GUEST_ECN: u64 = 1 << 9;
/// VIRTIO_NET_F_HOST_TSO4: the driver may send TCP over IPv4 that is not cut into packets.
pub const F_HOST_TSO4: u64 = 1 << 11;
/// VIRTIO_NET_F_HOST_TSO6: as before, over IPv6.
pub const F_HOST_TSO6: u64 = 1 << 12;
/// VIRTIO_NET_F_HOST_ECN: as before, with ECN.
pub const F_HOST_ECN: u64 = 1 << 13;
/// VIRTIO_NET_F_MRG_RXBUF: a frame may take several buffers.
pub const F_MRG_RXBUF: u64 = 1 << 15;
/// VIRTIO_NET_F_STATUS: the configuration says whether there is a network.
pub const F_STATUS: u64 = 1 << 16;

/// What the user may want or not.
pub const OPTIONAL: u64 = F_CSUM
    | F_GUEST_CSUM
    | F_GUEST_TSO4
    | F_GUEST_TSO6
    | F_GUEST_ECN
    | F_HOST_TSO4
    | F_HOST_TSO6
    | F_HOST_ECN
    | F_MRG_RXBUF;

/// Features, and those of which each needs one (§5.1.3.1), the needed ones first.
const NEEDS: [(u64, u64); 6] = [
    (F_GUEST_TSO4, F_GUEST_CSUM),
    (F_GUEST_TSO6, F_GUEST_CSUM),
    (F_GUEST_ECN, F_GUEST_TSO4 | F_GUEST_TSO6),
    (F_HOST_TSO4, F_CSUM),
    (F_HOST_TSO6, F_CSUM),
    (F_HOST_ECN, F_HOST_TSO4 | F_HOST_TSO6),
];

/// `features` without those that lack what they need.
#[must_use]
pub fn sound(features: u64) -> u64 {
    NEEDS.iter().filter(|(feature, _)| features & feature != 0).fold(
        features,
        |features, (feature, needed)| match features & needed {
            0 => features & !feature,
            _ => features,
        },
    )
}

/// What a driver with these features does for frames that it gets.
pub(super) fn offloads(features: u64) -> Offloads {
    let has = |feature| features & feature != 0;
    Offloads {
        checksum: has(F_GUEST_CSUM),
        tso4: has(F_GUEST_TSO4),
        tso6: has(F_GUEST_TSO6),
        ecn: has(F_GUEST_ECN),
    }
}

/// The address of one network card: neither of a group nor all zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac([u8; 6]);

/// Why something is no address of a network card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// It does not look like one.
    #[error("expected six bytes in hexadecimal, as 52:54:00:12:34:56")]
    Form,
    /// The lowest bit of the first byte is set.
    #[error("this is the address of a group: the first byte has to be even")]
    Group,
    /// All bytes are 0.
    #[error("this is no address: all bytes are 0")]
    Zero,
}

impl Mac {
    /// The address with these bytes.
    ///
    /// # Errors
    /// When it is that of a group, or all zero.
    pub fn new(bytes: [u8; 6]) -> Result<Mac, MacError> {
        match bytes {
            [0, 0, 0, 0, 0, 0] => Err(MacError::Zero),
            [first, ..] if first & 1 != 0 => Err(MacError::Group),
            bytes => Ok(Mac(bytes)),
        }
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(self) -> [u8; 6] {
        self.0
    }
}

impl FromStr for Mac {
    type Err = MacError;

    /// Reads `52:54:00:12:34:56`; QEMU takes `-` as well.
    fn from_str(text: &str) -> Result<Mac, MacError> {
        let mut parts = text.split([':', '-']);
        let mut bytes = [0; 6];
        for byte in &mut bytes {
            let part = parts.next().ok_or(MacError::Form)?;
            let fits = (1..=2).contains(&part.len()) && part.chars().all(|c| c.is_ascii_hexdigit());
            *byte = u8::from_str_radix(part, 16)
                .ok()
                .filter(|_| fits)
                .ok_or(MacError::Form)?;
        }
        match parts.next() {
            None => Mac::new(bytes),
            Some(_) => Err(MacError::Form),
        }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mac({self})")
    }
}
