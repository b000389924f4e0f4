//! The kinds of memory that a guest may lie on, for tests that go through all of them.

use std::collections::BTreeMap;

use serde_json::Value;

use super::hugepages::ALL_2M;
use super::maps::{self, Mapping};
use super::vm::{Launch, Vm};
use super::{Error, Result};

/// The id of the backend that [`Backing::launch`] gives a guest.
pub const ID: &str = "mem0";
/// A huge page, in bytes.
pub const HUGE_PAGE: u64 = 2 << 20;
/// A base page, in bytes.
pub const BASE_PAGE: u64 = 4096;

/// A kind of memory behind a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Private anonymous memory.
    Anonymous,
    /// A memfd with base pages.
    Memfd,
    /// A memfd with pages of 2 MiB.
    HugeMemfd,
    /// A file on a hugetlbfs with pages of 2 MiB.
    HugeDirectory,
    /// A file on a tmpfs.
    Tmpfs,
}

/// Every kind.
pub const ALL: [Backing; 5] = [
    Backing::Anonymous,
    Backing::Memfd,
    Backing::HugeMemfd,
    Backing::HugeDirectory,
    Backing::Tmpfs,
];

impl Backing {
    /// The value of `-object` up to the properties that all kinds have.
    pub fn object(self) -> &'static str {
        match self {
            Backing::Anonymous => "memory-backend-ram",
            Backing::Memfd => "memory-backend-memfd",
            Backing::HugeMemfd => "memory-backend-memfd,hugetlb=on,hugetlbsize=2M",
            Backing::HugeDirectory => "memory-backend-file,mem-path=/dev/hugepages",
            Backing::Tmpfs => "memory-backend-file,mem-path=/dev/shm",
        }
    }

    /// What Ballast calls it.
    pub fn kind(self) -> &'static str {
        match self {
            Backing::Anonymous => "anonymous memory",
            Backing::Memfd => "memfd",
            Backing::HugeMemfd => "hugetlb memfd",
            Backing::HugeDirectory => "hugetlbfs file in /dev/hugepages",
            Backing::Tmpfs => "tmpfs file in /dev/shm",
        }
    }

    /// Whether its pages come from a pool of huge pages.
    pub fn is_huge(self) -> bool {
        matches!(self, Backing::HugeMemfd | Backing::HugeDirectory)
    }

    /// The size of its pages in bytes.
    pub fn page(self) -> u64 {
        if self.is_huge() { HUGE_PAGE } else { BASE_PAGE }
    }

    /// Gives a guest this many MiB of this kind, with more properties as in `,prealloc=on`.
    #[must_use]
    pub fn launch(self, launch: Launch, mebibytes: u64, properties: &str) -> Launch {
        let object = format!("{},id={ID},size={mebibytes}M{properties}", self.object());
        launch
            .args(["-object", &object, "-numa", &format!("node,memdev={ID}")])
            .args(["-m", &mebibytes.to_string()])
    }

    /// Bytes that the host holds for a guest of this kind, counted where this kind is counted: `Rss` of private memory,
    /// `st_blocks` of a file, pages that are gone from the pool, which has to serve this guest alone.
    pub fn held(self, vm: &Vm) -> Result<u64> {
        match self {
            Backing::Anonymous => vm.resident(),
            Backing::Memfd | Backing::Tmpfs => maps::file_bytes(vm.pid(), &vm.memory()?),
            Backing::HugeMemfd | Backing::HugeDirectory => {
                let pages = ALL_2M.pages()?;
                Ok((pages.total - pages.free) * HUGE_PAGE)
            }
        }
    }
}

/// The one mapping that is a guest's RAM.
pub fn only_mapping(vm: &Vm) -> Result<Mapping> {
    let mut mappings = vm.memory()?;
    match (mappings.pop(), mappings.as_slice()) {
        (Some(mapping), []) => Ok(mapping),
        (found, more) => Err(Error::Format {
            path: format!("/proc/{}/smaps", vm.pid()).into(),
            what: format!(
                "single mapping of guest RAM, but {}",
                more.len() + usize::from(found.is_some())
            ),
        }),
    }
}

/// Bytes of a guest's RAM on each node of the host.
pub fn nodes(vm: &Vm) -> Result<BTreeMap<u32, u64>> {
    maps::node_bytes(vm.pid(), &only_mapping(vm)?)
}

/// The same as a member of `backends` in `x-ballast-query-memory` says it, for pages of `page` bytes.
pub fn nodes_said(report: &Value, page: u64) -> BTreeMap<u32, u64> {
    assert_eq!(report["nodes-exact"], true, "{report}");
    let nodes = report["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let bytes = |node: &Value, name: &str| {
        node[name]
            .as_u64()
            .unwrap_or_else(|| panic!("no {name}: {report}"))
    };
    let huge: u64 = nodes.iter().map(|node| bytes(node, "transparent-huge")).sum();
    assert_eq!(report["transparent-huge"], huge, "{report}");
    assert!(nodes.iter().all(|node| node["page-size"] == page), "{report}");
    let node = |node: &Value| {
        (
            u32::try_from(bytes(node, "node")).unwrap_or(u32::MAX),
            bytes(node, "bytes"),
        )
    };
    nodes.iter().map(node).collect()
}
