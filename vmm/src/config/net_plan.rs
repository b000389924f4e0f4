//! Networks, and the cards in them.

use std::collections::HashSet;

use devices::virtio::net::NetSpec;
use devices::virtio::net::features::Mac;
use devices::virtio::vhost_user::{Kind, VhostUserSpec};

use super::device_plan::{DeviceSpec, duplicate, name};
use super::vhost_user_plan::Chardevs;
use crate::cli::device::DeviceArg;
use crate::cli::net::{NetArg, NetdevArg, NetdevKind};

/// The first address that QEMU gives a card; the next ones count its last byte up.
const FIRST_MAC: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];

/// Queues of a card: to receive, and to send.
const QUEUES: u16 = 2;

/// Networks that do not fit together with cards.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Two networks with one name.
    #[error("two networks have the id '{id}'")]
    DuplicateNetwork {
        /// The id.
        id: String,
    },
    /// Two networks that are the same interface.
    #[error("two networks have the interface '{interface}': each needs one of its own")]
    InterfaceTwice {
        /// The interface.
        interface: String,
    },
    /// A network that was not defined.
    #[error(
        "virtio-net-pci,netdev={id}: there is no network '{id}'; -netdev tap,id={id},ifname=…,script=no defines it"
    )]
    UnknownNetwork {
        /// The id.
        id: String,
    },
    /// A network with more than one card.
    #[error("the network '{id}' has two devices: a tap interface is the end of one cable")]
    NetworkTwice {
        /// The id.
        id: String,
    },
    /// There are more cards than addresses for them.
    #[error("there is no address left for a network card: give the others addresses of their own, with mac=")]
    NoMac,
}

/// The networks, and what their cards have taken.
pub(super) struct Networks<'a> {
    networks: &'a [NetdevArg],
    used: HashSet<&'a str>,
    /// Addresses, those included that the user has given.
    macs: HashSet<Mac>,
}

impl<'a> Networks<'a> {
    pub(super) fn new(
        networks: &'a [NetdevArg],
        devices: &[DeviceArg],
    ) -> Result<Networks<'a>, NetworkError> {
        if let Some(id) = duplicate(networks.iter().map(|network| network.id.as_str())) {
            return Err(NetworkError::DuplicateNetwork { id });
        }
        let interfaces = networks.iter().filter_map(|network| match &network.kind {
            NetdevKind::Tap { interface } => Some(interface.as_str()),
            NetdevKind::VhostUser { .. } => None,
        });
        if let Some(interface) = duplicate(interfaces) {
            return Err(NetworkError::InterfaceTwice { interface });
        }
        let given = devices.iter().filter_map(|device| match device {
            DeviceArg::Net(arg) => arg.mac,
            DeviceArg::Balloon(_)
            | DeviceArg::Rng(_)
            | DeviceArg::Blk(_)
            | DeviceArg::VhostUserBlk(_)
            | DeviceArg::SerialBus(_)
            | DeviceArg::Console(_)
            | DeviceArg::Vsock(_)
            | DeviceArg::PvPanic(_) => None,
        });
        Ok(Networks {
            networks,
            used: HashSet::new(),
            macs: given.collect(),
        })
    }

    /// What `arg` describes, in its network.
    pub(super) fn card(
        &mut self,
        arg: NetArg,
        chardevs: &mut Chardevs<'_>,
        taken: &mut HashSet<String>,
    ) -> Result<DeviceSpec, super::Error> {
        let found = self.networks.iter().find(|network| network.id == arg.netdev);
        let Some(network) = found else {
            return Err(NetworkError::UnknownNetwork { id: arg.netdev }.into());
        };
        if !self.used.insert(&network.id) {
            return Err(NetworkError::NetworkTwice { id: arg.netdev }.into());
        }
        let id = name(arg.id, "net", taken);
        let mac = match arg.mac {
            Some(mac) => mac,
            None => self.next_mac().ok_or(NetworkError::NoMac)?,
        };
        let (features, mtu) = (arg.features, arg.mtu);
        match &network.kind {
            NetdevKind::Tap { interface } => Ok(DeviceSpec::Net {
                spec: NetSpec {
                    id,
                    mac,
                    features,
                    mtu,
                },
                netdev: network.id.clone(),
                interface: interface.clone(),
            }),
            NetdevKind::VhostUser { chardev } => {
                let (chardev, reconnect) = chardevs.take("-netdev vhost-user", chardev.clone())?;
                Ok(DeviceSpec::VhostUser {
                    spec: VhostUserSpec {
                        id,
                        kind: Kind::Net { mac, features, mtu },
                        queues: QUEUES,
                        reconnect,
                    },
                    chardev,
                    netdev: Some(network.id.clone()),
                })
            }
        }
    }

    /// The next of QEMU's addresses that no other card has.
    fn next_mac(&mut self) -> Option<Mac> {
        let [a, b, c, d, e, first] = FIRST_MAC;
        let mut all = (first..=u8::MAX).filter_map(|last| Mac::new([a, b, c, d, e, last]).ok());
        all.find(|mac| self.macs.insert(*mac))
    }

    /// Warnings about networks without a card.
    pub(super) fn unused(&self) -> Vec<String> {
        let unused = self
            .networks
            .iter()
            .filter(|network| !self.used.contains(network.id.as_str()));
        unused
            .map(|network| {
                format!(
                    "the network '{}' is not used: name it with -device virtio-net-pci,netdev=",
                    network.id
                )
            })
            .collect()
    }
}
