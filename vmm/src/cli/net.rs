//! `-netdev` and `-device virtio-net-pci`.

use devices::virtio::net::features::{self, Mac};

use super::keyval;
use super::properties::Properties;
use super::properties::net::{NETDEV, OFFERS};
use super::properties::vhost_user::NETDEV as VHOST_USER;
use super::value::ValueError;
use crate::host::tap::MAX_NAME;

/// One `-netdev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetdevArg {
    /// `id=`.
    pub id: String,
    /// What it is.
    pub kind: NetdevKind,
}

/// What a network of the host is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetdevKind {
    /// `tap`: an interface of the host.
    Tap {
        /// `ifname=`.
        interface: String,
    },
    /// `vhost-user`: a daemon.
    VhostUser {
        /// `chardev=`.
        chardev: String,
    },
}

/// One `-device virtio-net-pci`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetArg {
    /// `id=`.
    pub id: Option<String>,
    /// `netdev=`.
    pub netdev: String,
    /// `mac=`.
    pub mac: Option<Mac>,
    /// `csum=` and those like it, as the bits of the device's features.
    pub features: u64,
    /// `host_mtu=`.
    pub mtu: Option<u16>,
}

/// `-netdev TYPE,id=…,…`.
pub fn netdev(text: &str) -> Result<NetdevArg, ValueError> {
    let (kind, pairs) = keyval::typed(keyval::split(text, Some("type"))?, "-netdev", "type")?;
    let (properties, read): (_, fn(&Properties) -> _) = match kind.as_str() {
        "tap" => (NETDEV.accept(pairs)?, tap),
        "vhost-user" => (VHOST_USER.accept(pairs)?, vhost_user),
        _ => {
            return Err(ValueError::unknown_type(
                "network",
                kind,
                ["tap", "vhost-user"].into_iter(),
            ));
        }
    };
    properties.required("id")?;
    Ok(NetdevArg {
        id: properties.id("id")?.unwrap_or_default(),
        kind: read(&properties)?,
    })
}

fn vhost_user(properties: &Properties) -> Result<NetdevKind, ValueError> {
    properties.required("chardev")?;
    properties.switch("vhostforce")?;
    properties.number("queues", 1..=1)?;
    Ok(NetdevKind::VhostUser {
        chardev: properties.id("chardev")?.unwrap_or_default(),
    })
}

fn tap(properties: &Properties) -> Result<NetdevKind, ValueError> {
    let interface = properties.required("ifname")?;
    let fits = interface.len() <= MAX_NAME && !interface.contains(|c: char| c == '/' || c.is_whitespace());
    if !fits || interface.starts_with('.') {
        return Err(properties.wrong("ifname", "the name of an interface, at most 15 bytes"));
    }
    // QEMU's default is to run /etc/qemu-ifup.
    for script in ["script", "downscript"] {
        let absent = properties.text(script).is_none() && script == "downscript";
        if !absent && properties.text(script) != Some("no") {
            return Err(ValueError::Refused {
                what: "a script for the interface",
                why: "Ballast starts no programs; set the interface up before, and say script=no",
            });
        }
    }
    if properties.switch("vhost")? == Some(true) {
        return Err(ValueError::Refused {
            what: "vhost=on",
            why: "frames pass through Ballast, not through the kernel's vhost-net",
        });
    }
    Ok(NetdevKind::Tap {
        interface: interface.to_owned(),
    })
}

/// The device that its properties describe.
pub(super) fn device(properties: &Properties) -> Result<NetArg, ValueError> {
    properties.required("netdev")?;
    let mac = properties.text("mac").map(str::parse::<Mac>).transpose();
    let mac = mac.map_err(|error| ValueError::Invalid {
        name: "mac",
        value: properties.text("mac").unwrap_or_default().to_owned(),
        reason: error.to_string(),
    })?;
    let mut offered = features::OPTIONAL;
    for (name, feature) in OFFERS {
        if properties.switch(name)? == Some(false) {
            offered &= !feature;
        }
    }
    let mtu = properties.number("host_mtu", 68..=65535)?;
    Ok(NetArg {
        id: properties.id("id")?,
        netdev: properties.id("netdev")?.unwrap_or_default(),
        mac,
        features: features::sound(offered),
        mtu: mtu.and_then(|mtu| u16::try_from(mtu).ok()),
    })
}

#[cfg(test)]
mod tests;
