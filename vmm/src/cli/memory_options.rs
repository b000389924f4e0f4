//! `-m`, `-object memory-backend-*`, `-machine` and `-numa`.

use std::path::PathBuf;

use memory::backend::BackendKind;
use memory::host::numa::NodeSet;
use memory::policy::HostPolicy;
use memory::size::{ByteSize, PageSize, SizeUnit};

use super::keyval;
use super::near;
use super::properties::{
    BACKEND_FILE, BACKEND_MEMFD, BACKEND_RAM, Family, MACHINE, NUMA_NODE, Properties, RAM,
};
use super::value::ValueError;

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
    pub prealloc: Option<bool>,
    /// `merge=`.
    pub merge: Option<bool>,
    /// `host-nodes=` and `policy=`.
    pub policy: HostPolicy,
}

/// One `-machine`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MachineArg {
    /// `memory-backend=`.
    pub memory_backend: Option<String>,
    /// `mem-merge=`.
    pub mem_merge: Option<bool>,
}

/// One `-numa node`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NumaNodeArg {
    /// `memdev=`.
    pub memdev: Option<String>,
}

const OBJECTS: &[&Family] = &[&BACKEND_RAM, &BACKEND_MEMFD, &BACKEND_FILE];

/// `-m [size=]SIZE`; a bare number is MiB.
pub fn ram_size(text: &str) -> Result<ByteSize, ValueError> {
    let properties = RAM.accept(keyval::split(text, Some("size"))?)?;
    properties.required("size")?;
    let size = properties.size("size", SizeUnit::Mebi)?;
    size.ok_or_else(|| properties.wrong("size", "a size"))
}

/// `-object memory-backend-ram|memfd|file,…`.
pub fn object(text: &str) -> Result<ObjectArg, ValueError> {
    let mut pairs = keyval::split(text, Some("qom-type"))?;
    let at = pairs
        .iter()
        .position(|(key, _)| key == "qom-type")
        .ok_or_else(|| ValueError::Missing {
            owner: "-object".to_owned(),
            name: "qom-type",
        })?;
    let (_, kind) = pairs.remove(at);
    let names = || OBJECTS.iter().map(|family| family.owner);
    let family = OBJECTS
        .iter()
        .find(|family| family.owner == kind)
        .ok_or_else(|| ValueError::UnknownType {
            what: "object type",
            near: near::did_you_mean(&kind, "", names()),
            name: kind.clone(),
            accepted: names().collect::<Vec<_>>().join(", "),
        })?;
    let properties = family.accept(pairs)?;
    properties.required("id")?;
    properties.required("size")?;
    Ok(ObjectArg {
        id: properties.id("id")?.unwrap_or_default(),
        kind: backend_kind(family, &properties)?,
        size: properties.size("size", SizeUnit::Byte)?.unwrap_or_default(),
        share: properties.switch("share")?,
        reserve: properties.switch("reserve")?,
        prealloc: properties.switch("prealloc")?,
        merge: properties.switch("merge")?,
        policy: host_policy(&properties)?,
    })
}

fn backend_kind(family: &Family, properties: &Properties) -> Result<BackendKind, ValueError> {
    if family.owner == BACKEND_FILE.owner {
        return Ok(BackendKind::File {
            path: PathBuf::from(properties.required("mem-path")?),
        });
    }
    if family.owner == BACKEND_RAM.owner {
        return Ok(BackendKind::Ram);
    }
    let size = properties.size("hugetlbsize", SizeUnit::Byte)?;
    let hugetlb = properties.switch("hugetlb")?.unwrap_or(false);
    match (hugetlb, size) {
        (false, None) => Ok(BackendKind::Memfd { hugetlb: None }),
        (false, Some(_)) => Err(ValueError::Conflict("hugetlbsize= needs hugetlb=on")),
        // x86-64 kernels use 2 MiB unless told otherwise on their command line.
        (true, None) => Ok(BackendKind::Memfd {
            hugetlb: Some(PageSize::HUGE_2M),
        }),
        (true, Some(size)) => PageSize::from_bytes(size.bytes())
            .filter(|size| *size != PageSize::BASE)
            .map(|size| BackendKind::Memfd { hugetlb: Some(size) })
            .ok_or_else(|| properties.wrong("hugetlbsize", "2M or 1G")),
    }
}

fn host_policy(properties: &Properties) -> Result<HostPolicy, ValueError> {
    properties.only("policy", &["default", "bind"])?;
    // QEMU takes the list as repeated properties; with `,,` one property may hold it all.
    let nodes = properties.all("host-nodes").collect::<Vec<_>>().join(",");
    match (properties.text("policy") == Some("bind"), nodes.is_empty()) {
        (false, true) => Ok(HostPolicy::Default),
        (false, false) => Err(ValueError::Conflict("host-nodes= needs policy=bind")),
        (true, true) => Err(ValueError::Conflict("host-nodes must be set for policy bind")),
        (true, false) => NodeSet::parse(&nodes)
            .map(HostPolicy::Bind)
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
    })
}

/// `-numa node,…`.
pub fn numa(text: &str) -> Result<NumaNodeArg, ValueError> {
    let mut pairs = keyval::split(text, Some("type"))?;
    let kind = match pairs.iter().position(|(key, _)| key == "type") {
        Some(at) => pairs.remove(at).1,
        None => {
            return Err(ValueError::Missing {
                owner: "-numa".to_owned(),
                name: "type",
            });
        }
    };
    if kind != "node" {
        return Err(ValueError::NotAccepted {
            value: kind,
            accepted: "node".to_owned(),
        });
    }
    let properties = NUMA_NODE.accept(pairs)?;
    properties.only("nodeid", &["0"])?;
    Ok(NumaNodeArg {
        memdev: properties.id("memdev")?,
    })
}

#[cfg(test)]
mod tests;
