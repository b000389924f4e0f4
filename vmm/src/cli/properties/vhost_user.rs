//! The properties of daemons that serve devices, and of those devices.

use super::{Family, row};

/// `-chardev socket`.
#[rustfmt::skip]
pub const CHARDEV: Family = Family {
    option: "chardev",
    owner: "socket",
    rows: &[&[
        row("id", "NAME", "required", "", "name, for chardev=", "c"),
        row("path", "PATH", "required", "", "the daemon's socket, at most 107 bytes", "/run/vhost.sock"),
        row("reconnect", "SECONDS", "0: never", "", "look so often for a daemon that has gone; wait for it at the start", "1"),
        row("server", "off", "off", "", "the daemon listens; Ballast connects", "off"),
    ]],
};

/// `-device vhost-user-blk-pci`.
#[rustfmt::skip]
pub const BLK: Family = Family {
    option: "device",
    owner: "vhost-user-blk-pci",
    rows: &[&[
        row("id", "NAME", "vdisk0, vdisk1, …", "", "name of the device", "vdisk0"),
        row("chardev", "ID", "required", "", "socket of the daemon, which needs memory with share=on", "c"),
        row("num-queues", "1-64", "one a vCPU, up to 16", "", "request queues; at most the daemon's", "2"),
    ]],
};

/// `-netdev vhost-user`.
#[rustfmt::skip]
pub const NETDEV: Family = Family {
    option: "netdev",
    owner: "vhost-user",
    rows: &[&[
        row("id", "NAME", "required", "", "name, for virtio-net-pci,netdev=", "n"),
        row("chardev", "ID", "required", "", "socket of the daemon, which needs memory with share=on", "c"),
        row("vhostforce", "on|off", "on", "", "changes nothing", "on"),
        row("queues", "1", "1", "", "pairs of queues", "1"),
    ]],
};
