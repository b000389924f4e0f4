//! `-m`, `-object memory-backend-*`, `-machine` and `-overcommit`.

use std::num::NonZeroUsize;

use memory::backend::{BackendKind, FileSpec, Lock, Prealloc, Thp};
use memory::host::numa::NodeSet;
use memory::policy::{HostPolicy, Placing};
use memory::size::{ByteSize, PageSize, SizeUnit};

use super::keyval;
use super::properties::memory::{BACKEND_FILE, BACKEND_RAM, MACHINE, OVERCOMMIT, RAM};
use super::properties::{Family, Properties};
use super::value::ValueError;
use crate::budget::BudgetCheck;

/// `-object memory-backend-*`, as typed: what is not there is decided by other options or by the kind.
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectArg {
    /// `id=`.
    pub id: String,
    /// The type, with its own properties.
    pub kind: BackendKind,
    /// `size=`.
    pub size: ByteSize,
    /// `share=`.
    pub share: Option<bool>,
    /// `reserve=`.
    pub reserve: Option<bool>,
    /// `prealloc=`.
    pub prealloc: Option<Prealloc>,
    /// `prealloc-threads=`.
    pub prealloc_threads: Option<NonZeroUsize>,
    /// `merge=`.
    pub merge: Option<bool>,
    /// `dump=`.
    pub dump: Option<bool>,
    /// `thp=`.
    pub thp: Thp,
    /// `lock=`.
    pub lock: Option<Lock>,
    /// `host-nodes=` and `policy=`.
    pub policy: HostPolicy,
    /// `strict=`.
    pub strict: bool,
}

impl ObjectArg {
    /// A backend about which nothing more was said.
    pub fn new(id: impl Into<String>, kind: BackendKind, size: ByteSize) -> Self {
        Self {
            id: id.into(),
            kind,
            size,
            share: None,
            reserve: None,
            prealloc: None,
            prealloc_threads: None,
            merge: None,
            dump: None,
            thp: Thp::Default,
            lock: None,
            policy: HostPolicy::Default,
            strict: false,
        }
    }
}

/// One `-machine`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineArg {
    /// `memory-backend=`.
    pub memory_backend: Option<String>,
    /// `mem-merge=`.
    pub mem_merge: Option<bool>,
    /// `dump-guest-core=`.
    pub dump_guest_core: Option<bool>,
}

/// One `-overcommit`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OvercommitArg {
    /// `mem-lock=`.
    pub mem_lock: Option<Lock>,
    /// `check=`.
    pub check: Option<BudgetCheck>,
}

/// `-m [size=]SIZE`; a bare number is MiB.
pub fn ram_size(text: &str) -> Result<ByteSize, ValueError> {
    let properties = RAM.accept(keyval::split(text, Some("size"))?)?;
    properties.required("size")?;
    let size = properties.size("size", SizeUnit::Mebi)?;
    size.ok_or_else(|| properties.wrong("size", "a size"))
}

/// The memory backend that its properties describe.
pub(super) fn backend(family: &Family, properties: &Properties) -> Result<ObjectArg, ValueError> {
    properties.required("id")?;
    properties.required("size")?;
    Ok(ObjectArg {
        id: properties.id("id")?.unwrap_or_default(),
        kind: backend_kind(family, properties)?,
        size: properties.size("size", SizeUnit::Byte)?.unwrap_or_default(),
        share: properties.switch("share")?,
        reserve: properties.switch("reserve")?,
        prealloc: properties.word("prealloc", &[("background", Prealloc::Background)], |on| {
            if on { Prealloc::On } else { Prealloc::Off }
        })?,
        prealloc_threads: prealloc_threads(properties)?,
        merge: properties.switch("merge")?,
        dump: properties.switch("dump")?,
        thp: properties
            .word("thp", &[("default", Thp::Default)], |on| {
                if on { Thp::On } else { Thp::Off }
            })?
            .unwrap_or_default(),
        lock: lock(properties, "lock")?,
        policy: host_policy(properties)?,
        strict: strict(properties)?,
    })
}

fn prealloc_threads(properties: &Properties) -> Result<Option<NonZeroUsize>, ValueError> {
    let Some(text) = properties.text("prealloc-threads") else {
        return Ok(None);
    };
    let number = text
        .parse::<u16>()
        .ok()
        .map(usize::from)
        .and_then(NonZeroUsize::new);
    let wrong = || properties.wrong("prealloc-threads", "a number from 1 to 65535");
    number.map(Some).ok_or_else(wrong)
}

fn lock(properties: &Properties, name: &str) -> Result<Option<Lock>, ValueError> {
    properties.word(name, &[("on-fault", Lock::OnFault)], |on| {
        if on { Lock::On } else { Lock::Off }
    })
}

fn strict(properties: &Properties) -> Result<bool, ValueError> {
    let strict = properties.switch("strict")?.unwrap_or(false);
    if strict && properties.text("host-nodes").is_none() {
        return Err(ValueError::Conflict(
            "strict=on needs host-nodes= to compare with",
        ));
    }
    Ok(strict)
}

fn backend_kind(family: &Family, properties: &Properties) -> Result<BackendKind, ValueError> {
    if family.owner == BACKEND_FILE.owner {
        return file(properties).map(BackendKind::File);
    }
    if family.owner == BACKEND_RAM.owner {
        return Ok(BackendKind::Ram);
    }
    let size = properties.size("hugetlbsize", SizeUnit::Byte)?;
    let hugetlb = match (properties.switch("hugetlb")?.unwrap_or(false), size) {
        (false, None) => None,
        (false, Some(_)) => return Err(ValueError::Conflict("hugetlbsize= needs hugetlb=on")),
        // x86-64 kernels use 2 MiB unless told otherwise on their command line.
        (true, None) => Some(PageSize::HUGE_2M),
        (true, Some(size)) => {
            let page = PageSize::from_bytes(size.bytes()).filter(|page| *page != PageSize::BASE);
            Some(page.ok_or_else(|| properties.wrong("hugetlbsize", "2M or 1G"))?)
        }
    };
    Ok(BackendKind::Memfd {
        hugetlb,
        seal: properties.switch("seal")?.unwrap_or(true),
    })
}

fn file(properties: &Properties) -> Result<FileSpec, ValueError> {
    if properties.switch("pmem")? == Some(true) {
        return Err(ValueError::Refused {
            what: "pmem=on",
            why: "what a guest has in RAM is not there after a restart, on whatever device, and no persistent memory device is there to offer it",
        });
    }
    let read_only = properties.switch("readonly")?.unwrap_or(false);
    let rom = properties
        .word("rom", &[("auto", None)], Some)?
        .flatten()
        .unwrap_or(read_only);
    if rom {
        return Err(ValueError::Refused {
            what: if read_only {
                "readonly=on without rom=off"
            } else {
                "rom=on"
            },
            why: "a guest cannot run on memory that it cannot write to; readonly=on,rom=off gives it a private copy of the file",
        });
    }
    Ok(FileSpec {
        path: properties.required("mem-path")?.into(),
        offset: properties.size("offset", SizeUnit::Byte)?.unwrap_or_default(),
        align: properties.size("align", SizeUnit::Byte)?,
        read_only,
        discard: properties.switch("discard-data")?.unwrap_or(false),
    })
}

fn host_policy(properties: &Properties) -> Result<HostPolicy, ValueError> {
    // QEMU takes the list as repeated properties; with `,,` one property may hold it all.
    let nodes = properties.all("host-nodes").collect::<Vec<_>>().join(",");
    let name = properties.text("policy").unwrap_or("default");
    let placing = Placing::ALL.into_iter().find(|placing| placing.name() == name);
    match (placing, name, nodes.is_empty()) {
        (None, "default", true) => Ok(HostPolicy::Default),
        (None, "local", true) => Ok(HostPolicy::Local),
        (None, "default", false) => Err(ValueError::Conflict(
            "host-nodes= needs a policy= that says what to do with them, such as policy=bind",
        )),
        (None, "local", false) => Err(ValueError::Conflict(
            "policy=local takes no host-nodes=: pages come from the node of the CPU that touches them first",
        )),
        (None, ..) => {
            let names = Placing::ALL.map(Placing::name);
            Err(properties.wrong("policy", &format!("default, local, {}", names.join(", "))))
        }
        (Some(_), name, true) => Err(ValueError::NodesMissing {
            policy: name.to_owned(),
        }),
        (Some(placing), _, false) => NodeSet::parse(&nodes)
            .map(|nodes| HostPolicy::Nodes(placing, nodes))
            .map_err(|error| ValueError::Nodes {
                value: nodes,
                reason: error.to_string(),
            }),
    }
}

/// `-machine [type=]TYPE,…`.
pub fn machine(text: &str) -> Result<MachineArg, ValueError> {
    let properties = MACHINE.accept(keyval::split(text, Some("type"))?)?;
    properties.only("type", &["q35", "pc", "microvm"])?;
    properties.only("accel", &["kvm"])?;
    Ok(MachineArg {
        memory_backend: properties.id("memory-backend")?,
        mem_merge: properties.switch("mem-merge")?,
        dump_guest_core: properties.switch("dump-guest-core")?,
    })
}

/// `-overcommit mem-lock=…,check=…`.
pub fn overcommit(text: &str) -> Result<OvercommitArg, ValueError> {
    let properties = OVERCOMMIT.accept(keyval::split(text, None)?)?;
    properties.only("check", &["refuse", "warn", "off"])?;
    Ok(OvercommitArg {
        mem_lock: lock(&properties, "mem-lock")?,
        check: properties.text("check").map(|text| match text {
            "refuse" => BudgetCheck::Refuse,
            "warn" => BudgetCheck::Warn,
            _ => BudgetCheck::Off,
        }),
    })
}

#[cfg(test)]
mod tests;
