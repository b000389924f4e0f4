//! `-numa`.

use std::collections::BTreeSet;

use memory::host::cpus::CpuList;

use super::keyval;
use super::properties::Properties;
use super::properties::memory::{NUMA_CPU, NUMA_DIST, NUMA_NODE};
use super::value::ValueError;

/// One `-numa`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NumaArg {
    /// `-numa node`.
    Node(NumaNodeArg),
    /// `-numa dist`.
    Distance {
        /// `src=`.
        from: u8,
        /// `dst=`.
        to: u8,
        /// `val=`.
        distance: u8,
    },
    /// `-numa cpu`.
    Cpu {
        /// `node-id=`.
        node: u8,
        /// `socket-id=`.
        socket: Option<u8>,
        /// `core-id=`.
        core: Option<u8>,
        /// `thread-id=`.
        thread: Option<u8>,
    },
}

/// One `-numa node`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NumaNodeArg {
    /// `nodeid=`.
    pub id: Option<u8>,
    /// `cpus=`, all of them.
    pub cpus: BTreeSet<u8>,
    /// `memdev=`.
    pub memdev: Option<String>,
    /// `host-cpus=`.
    pub host_cpus: Option<CpuList>,
}

/// `-numa node,…`, `-numa dist,…` or `-numa cpu,…`.
pub fn numa(text: &str) -> Result<NumaArg, ValueError> {
    let (kind, pairs) = keyval::typed(keyval::split(text, Some("type"))?, "-numa", "type")?;
    match kind.as_str() {
        "node" => node(&NUMA_NODE.accept(pairs)?).map(NumaArg::Node),
        "dist" => distance(&NUMA_DIST.accept(pairs)?),
        "cpu" => cpu(&NUMA_CPU.accept(pairs)?),
        _ => Err(ValueError::NotAccepted {
            value: kind,
            accepted: "node, dist, cpu".to_owned(),
        }),
    }
}

fn node(properties: &Properties) -> Result<NumaNodeArg, ValueError> {
    let mut cpus = BTreeSet::new();
    // QEMU takes ranges as repeated properties; with `,,` one property may hold several.
    for range in properties.all("cpus").flat_map(|text| text.split(',')) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => cpus.extend(first..=last),
            _ => return Err(properties.wrong("cpus", "a vCPU such as 0, or a range such as 0-3")),
        }
    }
    Ok(NumaNodeArg {
        id: node_id(properties, "nodeid")?,
        cpus,
        memdev: properties.id("memdev")?,
        host_cpus: host_cpus(properties)?,
    })
}

fn host_cpus(properties: &Properties) -> Result<Option<CpuList>, ValueError> {
    let parsed = properties.text("host-cpus").map(str::parse).transpose();
    parsed.map_err(|_| properties.wrong("host-cpus", "CPUs of the host such as 0-1 or 0,,2"))
}

fn distance(properties: &Properties) -> Result<NumaArg, ValueError> {
    for name in ["src", "dst", "val"] {
        properties.required(name)?;
    }
    let distance = properties.text("val").and_then(number).filter(|val| *val >= 10);
    Ok(NumaArg::Distance {
        from: node_id(properties, "src")?.unwrap_or_default(),
        to: node_id(properties, "dst")?.unwrap_or_default(),
        distance: distance
            .ok_or_else(|| properties.wrong("val", "a distance from 10 (local) to 254, or 255 (no way)"))?,
    })
}

fn cpu(properties: &Properties) -> Result<NumaArg, ValueError> {
    properties.required("node-id")?;
    let place = |name| match properties.text(name) {
        None => Ok(None),
        Some(text) => number(text)
            .map(Some)
            .ok_or_else(|| properties.wrong(name, "a number from 0 to 253")),
    };
    let (socket, core, thread) = (place("socket-id")?, place("core-id")?, place("thread-id")?);
    if socket.or(core).or(thread).is_none() {
        return Err(ValueError::Conflict(
            "-numa cpu needs socket-id=, core-id= or thread-id= to say which vCPUs",
        ));
    }
    Ok(NumaArg::Cpu {
        node: node_id(properties, "node-id")?.unwrap_or_default(),
        socket,
        core,
        thread,
    })
}

/// QEMU's limit (`MAX_NODES`).
const MAX_NODE: u8 = 127;

fn node_id(properties: &Properties, name: &str) -> Result<Option<u8>, ValueError> {
    match properties.text(name) {
        None => Ok(None),
        Some(text) => number(text)
            .filter(|id| *id <= MAX_NODE)
            .map(Some)
            .ok_or_else(|| properties.wrong(name, "a node from 0 to 127")),
    }
}

/// Digits only: `parse` would take a sign too.
fn number(text: &str) -> Option<u8> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests;
