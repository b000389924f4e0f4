//! The properties of networks and of the cards in them.

use devices::virtio::net::features;

use super::{Family, Property, row};

/// `-netdev tap`.
#[rustfmt::skip]
pub const NETDEV: Family = Family {
    option: "netdev",
    owner: "tap",
    rows: &[&[
        row("id", "NAME", "required", "", "name, for virtio-net-pci,netdev=", "n"),
        row("ifname", "NAME", "required", "", "tap interface, which has to be there", "tap0"),
        row("script", "no", "required", "", "Ballast runs no script; set the interface up before", "no"),
        row("downscript", "no", "no", "", "as script=", "no"),
        row("vhost", "off", "off", "", "frames pass through Ballast, not through vhost-net", "off"),
    ]],
};

/// `-device virtio-net-pci`.
#[rustfmt::skip]
pub const NET: Family = Family {
    option: "device",
    owner: "virtio-net-pci",
    rows: &[&[
        row("id", "NAME", "net0, net1, …", "", "name of the device", "net0"),
        row("netdev", "ID", "required", "", "network that it is in", "n"),
        row("mac", "XX:XX:XX:XX:XX:XX", "52:54:00:12:34:56, :57, …", "", "its address", "52:54:00:00:00:01"),
        row("host_mtu", "68-65535", "not told", "bytes", "largest packet of the network", "1500"),
    ], SWITCHES],
};

#[rustfmt::skip]
const SWITCHES: &[Property] = &[
    row("csum", "on|off", "on", "", "the guest may leave checksums to the host; host_* need it", "off"),
    row("host_tso4", "on|off", "on", "", "the guest may send TCP/IPv4 that the host is to cut into packets", "off"),
    row("host_tso6", "on|off", "on", "", "the same for TCP/IPv6", "off"),
    row("host_ecn", "on|off", "on", "", "the same with ECN", "off"),
    row("guest_csum", "on|off", "on", "", "the host may leave checksums out; guest_* need it", "off"),
    row("guest_tso4", "on|off", "on", "", "the guest may get TCP/IPv4 that is not cut into packets", "off"),
    row("guest_tso6", "on|off", "on", "", "the same for TCP/IPv6", "off"),
    row("guest_ecn", "on|off", "on", "", "the same with ECN", "off"),
    row("mrg_rxbuf", "on|off", "on", "", "what the guest gets may take several buffers", "off"),
];

/// What each of the switches offers the guest's driver.
pub const OFFERS: [(&str, u64); 9] = [
    ("csum", features::F_CSUM),
    ("host_tso4", features::F_HOST_TSO4),
    ("host_tso6", features::F_HOST_TSO6),
    ("host_ecn", features::F_HOST_ECN),
    ("guest_csum", features::F_GUEST_CSUM),
    ("guest_tso4", features::F_GUEST_TSO4),
    ("guest_tso6", features::F_GUEST_TSO6),
    ("guest_ecn", features::F_GUEST_ECN),
    ("mrg_rxbuf", features::F_MRG_RXBUF),
];
