//! Objects and devices that stay as their options made them, for QMP's object model.

use devices::virtio::net::features::Mac;
use devices::virtio::rng::RngSpec;
use devices::virtio::vhost_user::Kind;
use serde_json::{Value, json};

use crate::cli::properties::net::OFFERS;
use crate::cli::rng::Entropy;
use crate::config::{Config, ConsoleSpec, DeviceSpec, Source};

/// Where in the object model something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// `/objects`.
    Objects,
    /// `/machine/peripheral`.
    Peripheral,
}

impl Place {
    /// The parts of its path.
    pub fn path(self) -> &'static [&'static str] {
        match self {
            Place::Objects => &["objects"],
            Place::Peripheral => &["machine", "peripheral"],
        }
    }
}

/// One of them.
#[derive(Clone, Debug)]
pub struct Item {
    /// Where it is.
    pub place: Place,
    /// Its name.
    pub id: String,
    /// Its type, as `-object` or `-device` names it.
    pub kind: &'static str,
    /// Name, type and value of each property, besides `type`.
    pub properties: Vec<(&'static str, &'static str, Value)>,
}

/// What `config` makes of this kind.
pub fn items(config: &Config) -> Vec<Item> {
    let mut items: Vec<Item> = config.devices.iter().flat_map(device).collect();
    // Several devices may share an object.
    let mut seen = std::collections::HashSet::new();
    items.retain(|item| item.place != Place::Objects || seen.insert(item.id.clone()));
    items
}

fn device(device: &DeviceSpec) -> Vec<Item> {
    match device {
        DeviceSpec::Rng { spec, source } => rng(spec, source),
        DeviceSpec::Net { spec, netdev, .. } => vec![Item {
            place: Place::Peripheral,
            id: spec.id.clone(),
            kind: "virtio-net-pci",
            properties: net(netdev, spec.mac, spec.features, spec.mtu),
        }],
        DeviceSpec::VhostUser {
            spec,
            chardev,
            netdev,
        } => {
            let (kind, properties) = match &spec.kind {
                Kind::Blk => (
                    "vhost-user-blk-pci",
                    vec![
                        ("chardev", "str", json!(chardev.id)),
                        ("num-queues", "uint16", json!(spec.queues)),
                    ],
                ),
                Kind::Net { mac, features, mtu } => {
                    let netdev = netdev.as_deref().unwrap_or_default();
                    ("virtio-net-pci", net(netdev, *mac, *features, *mtu))
                }
            };
            vec![Item {
                place: Place::Peripheral,
                id: spec.id.clone(),
                kind,
                properties,
            }]
        }
        DeviceSpec::PvPanic { id } => vec![Item {
            place: Place::Peripheral,
            id: id.clone(),
            kind: "pvpanic-pci",
            properties: Vec::new(),
        }],
        DeviceSpec::Console(spec) => console(spec),
        DeviceSpec::Vsock { spec, socket } => vec![Item {
            place: Place::Peripheral,
            id: spec.id.clone(),
            kind: "virtio-vsock-pci",
            properties: vec![
                ("guest-cid", "uint64", json!(spec.guest_cid)),
                ("socket", "str", json!(socket.display().to_string())),
            ],
        }],
        DeviceSpec::Blk { spec, drive } => vec![Item {
            place: Place::Peripheral,
            id: spec.id.clone(),
            kind: "virtio-blk-pci",
            properties: vec![
                ("drive", "str", json!(drive.id)),
                ("serial", "str", json!(spec.serial)),
                ("num-queues", "uint16", json!(spec.queues)),
                ("discard", "bool", json!(spec.discard && !spec.read_only)),
            ],
        }],
    }
}

fn net(netdev: &str, mac: Mac, features: u64, mtu: Option<u16>) -> Vec<(&'static str, &'static str, Value)> {
    let mut properties = vec![
        ("netdev", "str", json!(netdev)),
        ("mac", "str", json!(mac.to_string())),
        ("host_mtu", "uint16", json!(mtu.unwrap_or(0))),
    ];
    let offered = |(name, feature)| (name, "bool", json!(features & feature != 0));
    properties.extend(OFFERS.into_iter().map(offered));
    properties
}

/// The port has a path of its own, as with QEMU.
fn console(spec: &ConsoleSpec) -> Vec<Item> {
    let item = |id: &String, kind, properties| Item {
        place: Place::Peripheral,
        id: id.clone(),
        kind,
        properties,
    };
    vec![
        item(&spec.id, "virtio-serial-pci", Vec::new()),
        item(
            &spec.port,
            "virtconsole",
            vec![("chardev", "str", json!(spec.chardev))],
        ),
    ]
}

fn rng(spec: &RngSpec, source: &Source) -> Vec<Item> {
    let max_bytes = spec.max_bytes.unwrap_or(i64::MAX.unsigned_abs());
    let mut properties = vec![
        ("max-bytes", "uint64", json!(max_bytes)),
        ("period", "uint32", json!(spec.period.as_millis())),
    ];
    let mut items = Vec::new();
    if let Some(id) = &source.object {
        properties.push(("rng", "link<rng-backend>", json!(format!("/objects/{id}"))));
        let (kind, own) = match &source.entropy {
            Entropy::Builtin => ("rng-builtin", Vec::new()),
            Entropy::File(path) => (
                "rng-random",
                vec![("filename", "string", json!(path.display().to_string()))],
            ),
        };
        items.push(Item {
            place: Place::Objects,
            id: id.clone(),
            kind,
            properties: own,
        });
    }
    items.push(Item {
        place: Place::Peripheral,
        id: spec.id.clone(),
        kind: "virtio-rng-pci",
        properties,
    });
    items
}
