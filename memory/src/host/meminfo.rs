//! How much memory the host and each of its nodes have (proc_meminfo(5), Documentation/admin-guide/mm/numaperf.rst).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::size::ByteSize;

/// The figures of a `meminfo` file by the kernel's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meminfo(BTreeMap<String, u64>);

impl Meminfo {
    /// A figure in KiB, as bytes; `None` where the kernel does not have it.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<ByteSize> {
        let kib = self.0.get(name)?;
        Some(ByteSize::from_bytes(kib.saturating_mul(1024)))
    }
}

/// Of the whole host.
#[must_use]
pub fn host() -> Meminfo {
    read(Path::new("/proc/meminfo"))
}

/// Of one node.
#[must_use]
pub fn node(node: u32) -> Meminfo {
    read(Path::new(&format!("/sys/devices/system/node/node{node}/meminfo")))
}

fn read(path: &Path) -> Meminfo {
    parse(&fs::read_to_string(path).unwrap_or_default())
}

/// Lines as `MemFree:  12 kB`, with `Node 0 ` before them for a node.
fn parse(text: &str) -> Meminfo {
    let line = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let number = rest.split_whitespace().next()?.parse().ok()?;
        let name = name.split_whitespace().next_back()?;
        Some((name.to_owned(), number))
    };
    Meminfo(text.lines().filter_map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_host_and_its_nodes() {
        let found =
            parse("MemTotal:       24683220 kB\nHugePages_Total:       3\nbroken\nDirectMap4k: x kB\n");
        assert_eq!(
            found.size("MemTotal"),
            Some(ByteSize::from_bytes(24_683_220 << 10))
        );
        assert_eq!(found.size("DirectMap4k"), None);
        let found = parse("Node 1 MemFree:         1024 kB\nNode 1 Active(anon):  8 kB\n");
        assert_eq!(found.size("MemFree"), Some(ByteSize::mib(1)));
        assert_eq!(found.size("Active(anon)"), Some(ByteSize::from_bytes(8192)));
        assert!(host().size("MemAvailable") > Some(ByteSize::ZERO));
    }
}
