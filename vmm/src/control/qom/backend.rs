//! Memory backends as objects: every property can be read, and what the host can change while the guest runs can be set.

use memory::backend::{BackendKind, BackendSpec, FileSpec, Lock, Thp};
use memory::ram::{ChangeError, OpenBackend};
use serde_json::{Value, json};

use super::super::command::failed;
use super::super::memory_report::Asked;
use super::{Property, no_property, read_only};
use crate::control::qmp::Failure;

const COMMON: &[Property<OpenBackend>] = &[
    read_only("type", "string", |backend| json!(type_name(&backend.spec()))),
    read_only("size", "int", |backend| json!(backend.size().bytes())),
    read_only("share", "bool", |backend| json!(Asked::of(backend).share)),
    read_only("reserve", "bool", |backend| json!(Asked::of(backend).reserve)),
    Property {
        name: "prealloc",
        kind: "bool",
        get: |backend| json!(backend.spec().prealloc.wanted()),
        set: Some(|backend, value| set_switch("prealloc", value, |on| backend.set_prealloc(on))),
    },
    read_only("prealloc-threads", "int", |backend| {
        // Null: one a CPU.
        json!(backend.spec().prealloc_threads.map(std::num::NonZeroUsize::get))
    }),
    Property {
        name: "merge",
        kind: "bool",
        get: |backend| json!(Asked::of(backend).merge),
        set: Some(|backend, value| set_switch("merge", value, |on| backend.set_merge(on))),
    },
    Property {
        name: "dump",
        kind: "bool",
        get: |backend| json!(backend.spec().dump),
        set: Some(|backend, value| set_switch("dump", value, |on| backend.set_dump(on))),
    },
    read_only("thp", "string", |backend| json!(thp_name(backend.spec().thp))),
    read_only("lock", "string", |backend| json!(lock_name(backend.spec().lock))),
    read_only("host-nodes", "int", |backend| json!(Asked::of(backend).nodes)),
    read_only("policy", "HostMemPolicy", |backend| {
        json!(Asked::of(backend).policy)
    }),
    read_only("strict", "bool", |backend| json!(backend.spec().strict)),
];

const MEMFD: &[Property<OpenBackend>] = &[
    read_only("hugetlb", "bool", |backend| json!(backend.page_size().is_huge())),
    read_only("hugetlbsize", "int", |backend| match backend.page_size() {
        page if page.is_huge() => json!(page.bytes()),
        // QEMU's word for none.
        _ => json!(0),
    }),
    read_only("seal", "bool", |backend| {
        json!(matches!(
            backend.spec().kind,
            BackendKind::Memfd { seal: true, .. }
        ))
    }),
];

const FILE: &[Property<OpenBackend>] = &[
    read_only("mem-path", "string", |backend| {
        of_file(backend, |file| json!(file.path))
    }),
    read_only("offset", "int", |backend| {
        of_file(backend, |file| json!(file.offset.bytes()))
    }),
    read_only("align", "int", |backend| {
        of_file(backend, |file| json!(file.align.unwrap_or_default().bytes()))
    }),
    read_only("readonly", "bool", |backend| {
        of_file(backend, |file| json!(file.read_only))
    }),
    // Others are refused at the start.
    read_only("rom", "OnOffAuto", |_| json!("off")),
    read_only("discard-data", "bool", |backend| {
        of_file(backend, |file| json!(file.discard))
    }),
    read_only("pmem", "bool", |_| json!(false)),
];

/// The name of the type of a backend.
pub(super) fn type_name(spec: &BackendSpec) -> &'static str {
    match spec.kind {
        BackendKind::Ram => "memory-backend-ram",
        BackendKind::Memfd { .. } => "memory-backend-memfd",
        BackendKind::File(_) => "memory-backend-file",
    }
}

/// The properties that a backend of its type has.
pub(super) fn properties(backend: &OpenBackend) -> impl Iterator<Item = &'static Property<OpenBackend>> {
    let own = match backend.spec().kind {
        BackendKind::Ram => &[],
        BackendKind::Memfd { .. } => MEMFD,
        BackendKind::File(_) => FILE,
    };
    COMMON.iter().chain(own)
}

fn property(backend: &OpenBackend, name: &str) -> Result<&'static Property<OpenBackend>, Failure> {
    properties(backend)
        .find(|property| property.name == name)
        .ok_or_else(|| no_property(type_name(&backend.spec()), name))
}

pub(super) fn get(backend: &OpenBackend, name: &str) -> Result<Value, Failure> {
    property(backend, name).map(|property| (property.get)(backend))
}

pub(super) fn set(backend: &OpenBackend, name: &str, value: &Value) -> Result<(), Failure> {
    match property(backend, name)?.set {
        Some(set) => set(backend, value),
        // In QEMU's words.
        None => Err(Failure::generic(format!(
            "cannot change property {name} of {}",
            type_name(&backend.spec())
        ))),
    }
}

fn set_switch(
    name: &str,
    value: &Value,
    set: impl FnOnce(bool) -> Result<(), ChangeError>,
) -> Result<(), Failure> {
    let on = value
        .as_bool()
        .ok_or_else(|| Failure::generic(format!("Invalid parameter type for '{name}', expected: boolean")))?;
    set(on).map_err(|error| failed(&error))
}

fn of_file(backend: &OpenBackend, get: impl FnOnce(&FileSpec) -> Value) -> Value {
    match &backend.spec().kind {
        BackendKind::File(file) => get(file),
        BackendKind::Ram | BackendKind::Memfd { .. } => Value::Null,
    }
}

fn thp_name(thp: Thp) -> &'static str {
    match thp {
        Thp::Default => "default",
        Thp::On => "on",
        Thp::Off => "off",
    }
}

fn lock_name(lock: Lock) -> &'static str {
    match lock {
        Lock::Off => "off",
        Lock::On => "on",
        Lock::OnFault => "on-fault",
    }
}

#[cfg(test)]
mod tests;
