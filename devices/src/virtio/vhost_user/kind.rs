//! What the kinds of devices differ in when a daemon serves them.

use crate::virtio::net::features::{self, F_MAC, F_MTU, F_STATUS, Mac};
use crate::virtio::{F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1, blk};

/// VIRTIO_BLK_F_GEOMETRY, VIRTIO_BLK_F_BLK_SIZE, VIRTIO_BLK_F_TOPOLOGY: facts of the disk, in its configuration.
const BLK_FACTS: u64 = 1 << 4 | 1 << 6 | 1 << 10;
const BLK_FEATURES: u64 = blk::F_SIZE_MAX
    | blk::F_SEG_MAX
    | blk::F_RO
    | blk::F_FLUSH
    | blk::F_MQ
    | blk::F_DISCARD
    | blk::F_WRITE_ZEROES
    | BLK_FACTS;
/// Bytes of a disk's configuration, up to and with `write_zeroes_may_unmap` and its padding.
const BLK_CONFIG: u32 = 60;
const BLK_QUEUES_AT: usize = 34;

/// Bytes of a card's configuration, up to and with `mtu`.
const NET_CONFIG: usize = 12;
const NET_STATUS_AT: usize = 6;
/// VIRTIO_NET_S_LINK_UP.
const LINK_UP: u8 = 1;

/// What a daemon is asked to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A disk, whose size and limits the daemon knows.
    Blk,
    /// A network card; what a driver reads of it is ours to say.
    Net {
        /// Its address.
        mac: Mac,
        /// What is offered of [`features::OPTIONAL`], where the daemon has it.
        features: u64,
        /// The largest packet that the network takes, where the driver is to know.
        mtu: Option<u16>,
    },
}

impl Kind {
    /// Virtio device number and PCI class.
    pub(super) fn identity(&self) -> (u8, u32) {
        match self {
            Kind::Blk => (2, 0x01_00_00),
            Kind::Net { .. } => (1, 0x02_00_00),
        }
    }

    /// What may be offered to the driver if the daemon offers it.
    fn known(&self) -> u64 {
        let ring = F_VERSION_1 | F_EVENT_IDX | F_INDIRECT_DESC;
        ring | match self {
            Kind::Blk => BLK_FEATURES,
            Kind::Net { features, .. } => *features,
        }
    }

    /// What is offered whatever the daemon offers: it does not hear of it.
    fn ours(&self) -> u64 {
        match self {
            Kind::Blk => 0,
            Kind::Net { mtu, .. } => F_MAC | F_STATUS | if mtu.is_some() { F_MTU } else { 0 },
        }
    }

    /// What the driver is offered where the daemon offers `daemon`.
    pub(super) fn features(&self, daemon: u64) -> u64 {
        let common = daemon & self.known();
        let sound = match self {
            Kind::Blk => common,
            Kind::Net { .. } => features::sound(common),
        };
        sound | self.ours()
    }

    /// What the daemon hears of the features that a driver accepted.
    pub(super) fn for_daemon(&self, accepted: u64) -> u64 {
        accepted & !self.ours()
    }

    /// How many bytes of configuration the daemon is asked for.
    pub(super) fn daemon_config(&self) -> Option<u32> {
        match self {
            Kind::Blk => Some(BLK_CONFIG),
            Kind::Net { .. } => None,
        }
    }

    /// The configuration for the driver of a device with `queues` queues; `daemon` is the daemon's.
    pub(super) fn config(&self, daemon: &[u8], queues: u16, connected: bool) -> Vec<u8> {
        match self {
            Kind::Blk => {
                let mut config = daemon.to_vec();
                if let Some(field) = config.get_mut(BLK_QUEUES_AT..BLK_QUEUES_AT + 2) {
                    field.copy_from_slice(&queues.to_le_bytes());
                }
                config
            }
            Kind::Net { mac, mtu, .. } => {
                let mut config = vec![0; NET_CONFIG];
                config[..6].copy_from_slice(&mac.bytes());
                config[NET_STATUS_AT] = if connected { LINK_UP } else { 0 };
                config[8..10].copy_from_slice(&1_u16.to_le_bytes());
                config[10..].copy_from_slice(&mtu.unwrap_or(0).to_le_bytes());
                config
            }
        }
    }

    /// Queues without which there is no such device: a card receives and sends.
    pub(super) fn least_queues(&self) -> (u16, &'static str) {
        match self {
            Kind::Blk => (1, "a queue"),
            Kind::Net { .. } => (2, "the two queues of a network card; is it one?"),
        }
    }

    /// Whether a request that a daemon took and did not answer must not be forgotten. Frames may be lost.
    pub(super) fn remembers(&self) -> bool {
        matches!(self, Kind::Blk)
    }
}
