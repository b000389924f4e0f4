//! The properties of devices and of what stands behind them.

use super::{Family, row};

/// `-device virtio-balloon-pci`.
#[rustfmt::skip]
pub const BALLOON: Family = Family {
    option: "device",
    owner: "virtio-balloon-pci",
    rows: &[&[
        row("id", "NAME", "balloon0", "", "name of the device", "balloon0"),
        row("initial", "SIZE", "all RAM", "bytes", "first target: what the guest is to keep", "256M"),
        row("min", "SIZE", "0", "bytes", "floor: no target may be below it", "128M"),
        row("deflate-on-oom", "on|off", "off", "", "the guest may take memory back when it runs out", "on"),
        row("deflate-on-distress", "on|off", "off", "", "give all back when the statistics show a guest in need", "on"),
        row("free-page-reporting", "on|off", "on; off with prealloc or lock", "", "the guest reports free pages, which go to the host", "on"),
        row("free-page-hint", "off", "off", "", "hints are unsafe without migration, which is not there", "off"),
        row("page-poison", "on|off", "on", "", "the guest may say what its free pages contain", "on"),
        row("guest-stats-polling-interval", "SECONDS", "0; 1 with deflate-on-distress", "", "how often to ask for statistics; 0: when read", "5"),
    ]],
};

/// `-device virtio-rng-pci`.
#[rustfmt::skip]
pub const RNG: Family = Family {
    option: "device",
    owner: "virtio-rng-pci",
    rows: &[&[
        row("id", "NAME", "rng0, rng1, …", "", "name of the device", "rng0"),
        row("rng", "ID", "a source of its own: getrandom(2)", "", "object that the bytes come from", "r"),
        row("max-bytes", "N", "no limit", "", "bytes that the guest gets in each period", "1024"),
        row("period", "MS", "65536", "milliseconds", "length of a period", "1000"),
    ]],
};

/// `-object rng-random`.
#[rustfmt::skip]
pub const RNG_RANDOM: Family = Family {
    option: "object",
    owner: "rng-random",
    rows: &[RNG_ID, &[
        row("filename", "PATH", "/dev/urandom", "", "device or FIFO with random bytes", "/dev/hwrng"),
    ]],
};

/// `-object rng-builtin`.
pub const RNG_BUILTIN: Family = Family {
    option: "object",
    owner: "rng-builtin",
    rows: &[RNG_ID],
};

#[rustfmt::skip]
const RNG_ID: &[super::Property] = &[
    row("id", "NAME", "required", "", "name, for virtio-rng-pci,rng=", "r"),
];

/// `-drive`.
#[rustfmt::skip]
pub const DRIVE: Family = Family {
    option: "drive",
    owner: "-drive",
    rows: &[&[
        row("file", "PATH", "required", "", "image file or block device", "disk.img"),
        row("format", "raw|qcow2", "required", "", "what the image is; never guessed", "qcow2"),
        row("if", "virtio|none", "virtio", "", "virtio: with a virtio-blk-pci of its own", "none"),
        row("id", "NAME", "virtio0, virtio1, …", "", "name, for virtio-blk-pci,drive=", "d"),
        row("readonly", "on|off", "off", "", "the guest cannot write", "on"),
        row("discard", "unmap|ignore", "unmap", "", "what the guest discards goes back to the file system", "ignore"),
        row("cache", "writeback", "writeback", "", "writes are safe after the guest's flush", "writeback"),
        row("werror", "report", "report", "", "what becomes of failed writes: the guest hears of them", "report"),
        row("rerror", "report", "report", "", "what becomes of failed reads: the guest hears of them", "report"),
        row("media", "disk", "disk", "", "changes nothing", "disk"),
    ]],
};

/// `-device virtio-blk-pci`.
#[rustfmt::skip]
pub const BLK: Family = Family {
    option: "device",
    owner: "virtio-blk-pci",
    rows: &[&[
        row("id", "NAME", "disk0, disk1, …", "", "name of the device", "disk0"),
        row("drive", "ID", "required", "", "drive with if=none", "d"),
        row("serial", "TEXT", "empty", "", "serial number, at most 20 bytes", "SN1"),
        row("num-queues", "1-64", "one a vCPU, up to 16", "", "request queues", "2"),
    ]],
};

/// `-device pvpanic-pci`.
#[rustfmt::skip]
pub const PVPANIC: Family = Family {
    option: "device",
    owner: "pvpanic-pci",
    rows: &[&[
        row("id", "NAME", "pvpanic0", "", "name of the device, by which the guest tells of a panic", "pvpanic0"),
    ]],
};

/// `-device virtio-serial-pci`.
#[rustfmt::skip]
pub const SERIAL_BUS: Family = Family {
    option: "device",
    owner: "virtio-serial-pci",
    rows: &[&[
        row("id", "NAME", "serial0, serial1, …", "", "name of the device; a virtconsole comes with it", "serial0"),
    ]],
};

/// `-device virtconsole`.
#[rustfmt::skip]
pub const CONSOLE: Family = Family {
    option: "device",
    owner: "virtconsole",
    rows: &[&[
        row("id", "NAME", "console0, console1, …", "", "name of the console, Linux's hvc0", "console0"),
        row("chardev", "ID", "required", "", "what it is connected to", "c"),
    ]],
};

/// `-device virtio-vsock-pci`.
#[rustfmt::skip]
pub const VSOCK: Family = Family {
    option: "device",
    owner: "virtio-vsock-pci",
    rows: &[&[
        row("id", "NAME", "vsock0", "", "name of the device", "vsock0"),
        row("guest-cid", "N", "required", "", "the guest's context id, 3 to 4294967294", "3"),
        row("socket", "PATH", "required", "", "programs call the guest at PATH, and serve it at PATH_PORT", "/run/vm.sock"),
    ]],
};

#[rustfmt::skip]
const CHARDEV_ID: &[super::Property] = &[
    row("id", "NAME", "required", "", "name, for virtconsole,chardev=", "c"),
];

/// `-chardev stdio`.
pub const CHARDEV_STDIO: Family = Family {
    option: "chardev",
    owner: "stdio",
    rows: &[CHARDEV_ID],
};

/// `-chardev file`.
#[rustfmt::skip]
pub const CHARDEV_FILE: Family = Family {
    option: "chardev",
    owner: "file",
    rows: &[CHARDEV_ID, &[
        row("path", "PATH", "required", "", "file that gets the output; emptied first", "console.log"),
    ]],
};

/// `-chardev null`.
pub const CHARDEV_NULL: Family = Family {
    option: "chardev",
    owner: "null",
    rows: &[CHARDEV_ID],
};
