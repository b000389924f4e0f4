//! The properties of everything that decides about the guest's memory.

use super::{Family, Property, row};

#[rustfmt::skip]
const BACKEND: &[Property] = &[
    row("id", "NAME", "required", "", "name, for memory-backend= and memdev=", "mem0"),
    row("size", "SIZE", "required", "bytes", "size, a multiple of the page size; suffixes K, M, G, T", "512M"),
    row("share", "on|off", "off; on for memfd", "", "shared mapping; files in a directory are always shared", "on"),
    row("reserve", "on|off", "off; on for huge pages", "", "have the kernel set memory or huge pages aside", "on"),
    row("prealloc", "on|off|background", "off, or as -mem-prealloc", "", "fill with pages before the guest starts, or beside it", "on"),
    row("prealloc-threads", "N", "one a CPU; background: 1", "", "threads that fill it; needs prealloc=", "2"),
    row("merge", "on|off", "off, or as mem-merge=", "", "let KSM merge equal pages (anonymous memory only)", "off"),
    row("dump", "on|off", "on, or as dump-guest-core=", "", "whether core dumps of Ballast hold it", "off"),
    row("thp", "on|off|default", "default", "", "transparent huge pages: on fails where the host has none", "off"),
    row("lock", "on|off|on-fault", "off, or as mem-lock=", "", "never swap it; on fills it, on-fault what is touched", "on-fault"),
    row("host-nodes", "NODES", "none", "", "host NUMA nodes such as 0-1; may be repeated; needs policy=", "0"),
    row("policy", POLICIES, "default", "", "which of host-nodes give pages; local: that of the toucher", "bind"),
    row("strict", "on|off", "off", "", "pages that prealloc=on finds elsewhere than policy= wants are an error, not a warning", "on"),
];

/// The names of the policies.
const POLICIES: &str = "default|local|bind|preferred|preferred-many|interleave|weighted-interleave";

#[rustfmt::skip]
const MEMFD: &[Property] = &[
    row("hugetlb", "on|off", "off", "", "use huge pages", "on"),
    row("hugetlbsize", "2M|1G", "2M", "bytes", "which huge pages; needs hugetlb=on", "2M"),
    row("seal", "on|off", "on", "", "nobody can change the size of the memfd", "off"),
];

#[rustfmt::skip]
const FILE: &[Property] = &[
    row("mem-path", "PATH", "required", "", "directory on hugetlbfs or tmpfs for an unlinked file, or a file", "/dev/shm"),
    row("offset", "SIZE", "0", "bytes", "where the RAM begins in a file with a name", "2M"),
    row("align", "SIZE", "2M, or the page size", "bytes", "what host and guest addresses agree modulo", "1G"),
    row("readonly", "on|off", "off", "", "only read the file; the guest has a private copy; needs rom=off", "off"),
    row("rom", "on|off|auto", "auto: as readonly=", "", "RAM cannot be ROM: only off works", "off"),
    row("discard-data", "on|off", "off", "", "the file's bytes may be lost: when freed, and at the end", "on"),
    row("pmem", "off", "off", "", "RAM is not persistent, whatever it is kept in", "off"),
];

/// `-m`.
#[rustfmt::skip]
pub const RAM: Family = Family {
    option: "m",
    owner: "-m",
    rows: &[&[row("size", "SIZE", "128M", "MiB", "RAM of the guest; suffixes K, M, G, T", "512")]],
};

/// `-machine`.
#[rustfmt::skip]
pub const MACHINE: Family = Family {
    option: "machine",
    owner: "-machine",
    rows: &[&[
        row("type", "q35|pc|microvm", "q35", "", "there is one machine; changes nothing", "q35"),
        row("accel", "kvm", "kvm", "", "KVM is the only accelerator; changes nothing", "kvm"),
        row("memory-backend", "ID", "none", "", "the backend that is the guest's RAM", "mem0"),
        row("mem-merge", "on|off", "off", "", "default of merge= for every backend", "on"),
        row("dump-guest-core", "on|off", "on", "", "default of dump= for every backend", "off"),
    ]],
};

/// `-overcommit`.
#[rustfmt::skip]
pub const OVERCOMMIT: Family = Family {
    option: "overcommit",
    owner: "-overcommit",
    rows: &[&[
        row("mem-lock", "on|off|on-fault", "off", "", "default of lock= for every backend", "on"),
        row("check", "refuse|warn|off", "warn", "", "what to do where the guest can need more memory than there is", "refuse"),
    ]],
};

/// `-numa node`.
#[rustfmt::skip]
pub const NUMA_NODE: Family = Family {
    option: "numa",
    owner: "node",
    rows: &[&[
        row("nodeid", "0-127", "the next", "", "number of the node; from 0, without gaps", "0"),
        row("cpus", "N[-N]", "all of one node", "", "vCPUs of the node; may be repeated", "0"),
        row("memdev", "ID", "none", "", "the backend that is the node's RAM", "mem0"),
        row("host-cpus", "LIST", "all", "", "CPUs of the host that the node's vCPUs run on; , is written ,,", "0-1"),
    ]],
};

/// `-numa dist`.
#[rustfmt::skip]
pub const NUMA_DIST: Family = Family {
    option: "numa",
    owner: "dist",
    rows: &[&[
        row("src", "NODE", "required", "", "from this node", "0"),
        row("dst", "NODE", "required", "", "to this one, and back unless that is given too", "1"),
        row("val", "10-255", "required", "", "distance: 10 is local, 255 no way; 20 where no dist is given", "21"),
    ]],
};

/// `-numa cpu`.
#[rustfmt::skip]
pub const NUMA_CPU: Family = Family {
    option: "numa",
    owner: "cpu",
    rows: &[&[
        row("node-id", "NODE", "required", "", "the node of the vCPUs named by the rest", "0"),
        row("socket-id", "N", "any", "", "vCPUs of this socket", "0"),
        row("core-id", "N", "any", "", "vCPUs with this number in their socket", "0"),
        row("thread-id", "0", "any", "", "cores have one thread", "0"),
    ]],
};

/// `-object memory-backend-ram`.
pub const BACKEND_RAM: Family = Family {
    option: "object",
    owner: "memory-backend-ram",
    rows: &[BACKEND],
};
/// `-object memory-backend-memfd`.
pub const BACKEND_MEMFD: Family = Family {
    option: "object",
    owner: "memory-backend-memfd",
    rows: &[BACKEND, MEMFD],
};
/// `-object memory-backend-file`.
pub const BACKEND_FILE: Family = Family {
    option: "object",
    owner: "memory-backend-file",
    rows: &[BACKEND, FILE],
};
