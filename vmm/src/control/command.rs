//! The commands of QMP: one arm of one match each. All answer at once, from state; what takes time reports by events.
//! The requests that are better answered a moment later are named by [`awaits`].

use std::error::Error;
use std::sync::Arc;

use devices::virtio::balloon::BalloonHandle;
use memory::host::cpus::CpuList;
use memory::size::ByteSize;
use serde_json::{Value, json};

use super::balloon_report;
use super::block_report;
use super::daemon_report;
use super::host_report;
use super::memory_report;
use super::monitor;
use super::object;
use super::prealloc_report;
use super::put_off::Awaited;
use super::qmp::{self, Arguments, Class, Failure};
use super::qom;
use super::target::Target;
use crate::pinning::{self, PinError};
use crate::run_state::RunState;
use crate::sampler::Sample;
use crate::told::chain;

/// Every command, in the order of [`execute`].
pub const NAMES: &[&str] = &[
    "qmp_capabilities",
    "query-version",
    "query-commands",
    "query-status",
    "query-kvm",
    "query-name",
    "query-cpus-fast",
    "query-balloon",
    "query-block",
    "query-blockstats",
    "query-memdev",
    "query-memory-size-summary",
    "stop",
    "cont",
    "system_powerdown",
    "system_reset",
    "quit",
    "balloon",
    "qom-list",
    "qom-get",
    "qom-set",
    "object-add",
    "object-del",
    "human-monitor-command",
    "x-ballast-query-memory",
    "x-ballast-query-balloon",
    "x-ballast-query-faults",
    "x-ballast-query-host",
    "x-ballast-query-daemons",
    "x-ballast-query-prealloc",
    "x-ballast-cancel-prealloc",
    "x-ballast-pin-vcpus",
];

type Answer = Result<Value, Failure>;

/// Does what `name` says.
pub fn execute(target: &mut dyn Target, name: &str, mut arguments: Arguments) -> Answer {
    match name {
        "qmp_capabilities" => Err(Failure {
            class: Class::CommandNotFound,
            desc: "Capabilities negotiation is already complete, command ignored".into(),
        }),
        "query-version" => arguments.finish().map(|()| qmp::version()),
        "query-commands" => arguments
            .finish()
            .map(|()| NAMES.iter().map(|name| json!({ "name": name })).collect()),
        "query-status" => arguments.finish().map(|()| status(target.run_state())),
        "query-kvm" => arguments
            .finish()
            .map(|()| json!({ "enabled": true, "present": true })),
        "query-name" => arguments.finish().map(|()| match target.name() {
            Some(name) => json!({ "name": name }),
            None => json!({}),
        }),
        "query-cpus-fast" => arguments.finish().map(|()| vcpus(target)),
        "query-balloon" => {
            arguments.finish()?;
            balloon(target).map(|balloon| json!({ "actual": balloon.actual().bytes() }))
        }
        "query-block" => arguments.finish().map(|()| block_report::block(target.disks())),
        "query-blockstats" => arguments.finish().map(|()| block_report::stats(target.disks())),
        "query-memdev" => arguments.finish().map(|()| memory_report::memdev(target)),
        "query-memory-size-summary" => {
            arguments.finish()?;
            Ok(json!({ "base-memory": target.ram().size().bytes(), "plugged-memory": 0 }))
        }
        "stop" => arguments.finish().and_then(|()| done(target.stop())),
        "cont" => {
            // Ours: QEMU's has no arguments.
            let force = arguments.optional_bool("force")?.unwrap_or(false);
            arguments.finish().and_then(|()| done(target.cont(force)))
        }
        "system_powerdown" => arguments.finish().and_then(|()| done(target.system_powerdown())),
        "system_reset" => {
            arguments.finish()?;
            target.system_reset();
            Ok(json!({}))
        }
        "quit" => {
            arguments.finish()?;
            target.quit();
            Ok(json!({}))
        }
        "balloon" => {
            let value = arguments.integer("value")?;
            arguments.finish()?;
            set_balloon(target, value).map(|()| json!({}))
        }
        "qom-list" => {
            let path = arguments.string("path")?;
            arguments.finish()?;
            qom::list(target, &path)
        }
        "qom-get" => {
            let (path, property) = (arguments.string("path")?, arguments.string("property")?);
            arguments.finish()?;
            qom::get(target, &path, &property)
        }
        "qom-set" => {
            let (path, property) = (arguments.string("path")?, arguments.string("property")?);
            let value = arguments.any("value")?;
            arguments.finish()?;
            qom::set(target, &path, &property, &value).map(|()| json!({}))
        }
        "object-add" => object::add(target, arguments).map(|()| json!({})),
        "object-del" => {
            let id = arguments.string("id")?;
            arguments.finish()?;
            object::remove(target, &id).map(|()| json!({}))
        }
        "human-monitor-command" => {
            let line = arguments.string("command-line")?;
            // Which vCPU's registers to show; no command here shows any.
            arguments.optional_integer("cpu-index")?;
            arguments.finish()?;
            Ok(json!(monitor::run(target, &line).replace('\n', "\r\n")))
        }
        "x-ballast-query-memory" => {
            arguments.finish()?;
            let sample = sample(target)?;
            Ok(memory_report::memory(target, &sample))
        }
        "x-ballast-query-balloon" => {
            arguments.finish()?;
            let balloon = balloon(target)?;
            Ok(balloon_report::query(balloon, target.ram(), &*sample(target)?))
        }
        "x-ballast-query-faults" => arguments.finish().map(|()| faults(target)),
        "x-ballast-query-host" => arguments.finish().map(|()| host_report::host()),
        "x-ballast-query-daemons" => arguments
            .finish()
            .map(|()| daemon_report::daemons(target.daemons())),
        "x-ballast-query-prealloc" => {
            arguments.finish()?;
            Ok(prealloc_report::query(target))
        }
        "x-ballast-cancel-prealloc" => {
            let id = arguments.optional_string("id")?;
            arguments.finish()?;
            prealloc_report::cancel(target, id.as_deref()).map(|()| json!({}))
        }
        "x-ballast-pin-vcpus" => {
            let (vcpus, cpus) = (arguments.optional_list("vcpus")?, arguments.list("host-cpus")?);
            arguments.finish()?;
            pin_vcpus(target, vcpus, cpus)
        }
        _ => Err(Failure {
            class: Class::CommandNotFound,
            desc: format!("The command {name} has not been found").into(),
        }),
    }
}

/// What it is better to wait for before a request is done: the guest's statistics, for which the guest is asked here, or a
/// sample of what the host holds, which is taken from here on. None where there is nothing to wait for.
pub(super) fn awaits(target: &mut dyn Target, name: &str, arguments: &Arguments) -> Option<Awaited> {
    let text = |name| arguments.peek(name).and_then(Value::as_str);
    match name {
        "x-ballast-query-memory" | "x-ballast-query-balloon" => awaits_sample(target),
        "human-monitor-command" => monitor::awaits(target, text("command-line")?),
        "qom-get" => {
            let asked = target.run_state() == RunState::Running
                && qom::ask_guest(target, text("path")?, text("property")?);
            asked.then_some(Awaited::Statistics)
        }
        _ => None,
    }
}

/// The sample, where there is none that is recent.
pub(super) fn awaits_sample(target: &mut dyn Target) -> Option<Awaited> {
    (!target.sample_ready()).then_some(Awaited::Sample)
}

/// What the host held last.
pub(super) fn sample(target: &dyn Target) -> Result<Arc<Sample>, Failure> {
    target.sample().map_err(Failure::generic)
}

/// Asks that the guest keep `remaining` bytes.
pub(super) fn set_balloon(target: &dyn Target, remaining: i64) -> Result<(), Failure> {
    let balloon = balloon(target)?;
    // QEMU calls the argument 'target' here and 'value' elsewhere.
    let size = u64::try_from(remaining).ok().filter(|bytes| *bytes > 0);
    let size = size.ok_or_else(|| Failure::generic("Parameter 'target' expects a size"))?;
    balloon
        .set_target(ByteSize::from_bytes(size))
        .map_err(|error| failed(&error))
}

/// The balloon, or why there is none to act upon.
pub(super) fn balloon(target: &dyn Target) -> Result<&BalloonHandle, Failure> {
    target.balloon().ok_or(Failure {
        class: Class::DeviceNotActive,
        desc: "No balloon device has been activated".into(),
    })
}

fn done<E: Error>(result: Result<(), E>) -> Answer {
    result.map(|()| json!({})).map_err(|error| failed(&error))
}

/// An error and its causes in one line.
pub(super) fn failed(error: &dyn Error) -> Failure {
    Failure::generic(chain(error))
}

fn status(state: RunState) -> Value {
    json!({ "status": state.as_qmp(), "singlestep": false, "running": state == RunState::Running })
}

fn vcpus(target: &dyn Target) -> Value {
    let vcpu = |info: &crate::machine::VcpuInfo| {
        let place = info.place;
        let mut props =
            json!({ "socket-id": place.socket, "core-id": place.core, "thread-id": place.thread });
        if let Some(node) = place.node {
            props["node-id"] = json!(node);
        }
        // What could not be found out is null.
        let allowed = pinning::allowed(info).ok();
        json!({
            "cpu-index": info.index,
            "qom-path": format!("/machine/unattached/device[{}]", info.index),
            "thread-id": info.thread_id,
            "target": "x86_64",
            "props": props,
            "x-ballast-host-cpus": allowed.map(|cpus| cpus.iter().collect::<Vec<_>>()),
        })
    };
    target.vcpus().iter().map(vcpu).collect()
}

/// Has these vCPUs, or all, run on these CPUs of the host.
fn pin_vcpus(target: &dyn Target, vcpus: Option<Vec<u32>>, cpus: Vec<u32>) -> Answer {
    let all = target.vcpus();
    let cpus = CpuList::try_from(cpus).map_err(|error| failed(&error))?;
    let find = |vcpu: u32| {
        let info = all.iter().find(|info| u32::from(info.index) == vcpu);
        let count = all.len();
        info.ok_or(PinError::NoVcpu { vcpu, count })
    };
    let chosen = match vcpus {
        Some(vcpus) => vcpus.into_iter().map(find).collect(),
        None => Ok(all.iter().collect::<Vec<_>>()),
    };
    let pinned = chosen.and_then(|chosen| pinning::pin(chosen.into_iter().map(|info| (info, &cpus))));
    done(pinned)
}

/// All kinds that there are, in a fixed order, those that never happened too.
fn faults(target: &dyn Target) -> Value {
    target
        .faults()
        .counts()
        .into_iter()
        .map(|(kind, count)| json!({ "kind": kind, "count": count }))
        .collect()
}

#[cfg(test)]
mod tests;
