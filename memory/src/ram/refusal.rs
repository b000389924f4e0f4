//! What to say, and to do, when the host refuses a part of a start.

use std::io;

use rustix::process::Resource;

use super::RamError;
use super::shortage::{self, Claim, Shortage};
use crate::backend::{Backend, BackendSpec, HostPolicy};
use crate::host::cgroup;
use crate::host::numa::NodeSet;
use crate::mapping::{Mapping, Span};
use crate::residency;
use crate::size::ByteSize;

pub(super) fn forbidden(spec: &BackendSpec, nodes: NodeSet, allowed: NodeSet) -> RamError {
    let file = cgroup::effective("cpuset.mems.effective");
    let file = file.map(|(file, _)| format!(" ({})", file.display()));
    RamError::NodeForbidden {
        id: spec.id.clone(),
        nodes,
        allowed,
        file: file.unwrap_or_default(),
    }
}

pub(super) fn policy_error(spec: &BackendSpec, source: io::Error) -> RamError {
    let since = match &spec.policy {
        HostPolicy::Nodes(placing, _) => placing.since(),
        HostPolicy::Default | HostPolicy::Local => None,
    };
    let unknown = source.raw_os_error() == Some(libc::EINVAL);
    let hint = since
        .filter(|_| unknown)
        .map(|since| format!(", which needs {since}"));
    RamError::Policy {
        id: spec.id.clone(),
        policy: spec.policy.clone(),
        hint: hint.unwrap_or_default(),
        source,
    }
}

pub(super) fn lock_error(spec: &BackendSpec, source: io::Error) -> RamError {
    let limit = rustix::process::getrlimit(Resource::Memlock).current;
    let hint = limit.map(|limit| {
        format!(
            ": RLIMIT_MEMLOCK is {}; raise it (ulimit -l) or give CAP_IPC_LOCK",
            ByteSize::from_bytes(limit)
        )
    });
    RamError::Lock {
        id: spec.id.clone(),
        size: spec.size,
        hint: hint.unwrap_or_default(),
        source,
    }
}

pub(super) fn map_error(spec: &BackendSpec, backend: &dyn Backend, source: io::Error) -> RamError {
    let page = backend.page_size();
    let out_of_memory = source.raw_os_error() == Some(libc::ENOMEM);
    if out_of_memory && page.is_huge() {
        // Somebody else was faster than our check.
        if let Some(shortage) = shortage::found(&spec.id, &Claim::new(spec, page), 0) {
            return shortage.into();
        }
    }
    let hint = match (out_of_memory, page.is_huge()) {
        (true, true) => cgroup::huge_pages(page).map_or_else(
            || ": the mount may have a limit (size=)".to_owned(),
            |limit| format!(": {limit}; the mount may have a limit (size=) too"),
        ),
        (true, false) if !spec.reserves(page) => {
            ": this process may have no more addresses (RLIMIT_AS, ulimit -v), or the host promises no more \
             (vm.overcommit_memory=2); make the guest smaller"
                .to_owned()
        }
        (true, false) => ": with reserve=off the host does not account for it before it is used".to_owned(),
        (false, _) => String::new(),
    };
    RamError::Map {
        id: spec.id.clone(),
        size: spec.size,
        what: backend.describe(),
        hint,
        source,
    }
}

/// On an empty pool the kernel says `EFAULT`, as it does for a full tmpfs: it has no other word for SIGBUS.
pub(super) fn prealloc_error(
    spec: &BackendSpec,
    backend: &dyn Backend,
    mapping: &Mapping,
    offset: u64,
    source: io::Error,
) -> RamError {
    match cause(spec, backend, mapping, &source) {
        Cause::Pool(shortage) => shortage.into(),
        Cause::Other { place, hint } => RamError::Prealloc {
            id: spec.id.clone(),
            size: spec.size,
            place,
            offset: ByteSize::from_bytes(offset),
            hint,
            source,
        },
    }
}

/// The same, of a piece that has to be there before the guest's first instruction.
pub(super) fn provide_error(
    spec: &BackendSpec,
    backend: &dyn Backend,
    mapping: &Mapping,
    span: Span,
    source: io::Error,
) -> RamError {
    match cause(spec, backend, mapping, &source) {
        Cause::Pool(shortage) => shortage.into(),
        Cause::Other { place, hint } => RamError::Provide {
            id: spec.id.clone(),
            place,
            offset: ByteSize::from_bytes(span.offset),
            len: ByteSize::from_bytes(span.len),
            hint,
            source,
        },
    }
}

/// Why a page could not be had.
enum Cause {
    /// The pool shows it.
    Pool(Shortage),
    /// Where it should have been, and what it probably was.
    Other { place: String, hint: String },
}

fn cause(spec: &BackendSpec, backend: &dyn Backend, mapping: &Mapping, source: &io::Error) -> Cause {
    let page = backend.page_size();
    let no_page = matches!(source.raw_os_error(), Some(libc::EFAULT | libc::ENOMEM));
    let mut hint = String::new();
    if no_page && page.is_huge() {
        let held = residency::resident(backend, mapping).unwrap_or_default().bytes() / page.bytes();
        if let Some(shortage) = shortage::found(&spec.id, &Claim::new(spec, page), held) {
            return Cause::Pool(shortage);
        }
        hint = format!("; the pool of {page} pages has enough");
        if let Some(limit) = cgroup::huge_pages(page) {
            hint = format!("{hint}, but a control group limits them: {limit}");
        }
    } else if no_page && let Some(room) = backend.room() {
        hint = format!("; the {} has room for {room} more", backend.describe());
    } else if source.raw_os_error() == Some(libc::EHWPOISON) {
        hint = "; the host has a broken page there".to_owned();
    }
    let place = spec.policy.nodes().map(|nodes| format!(" on node {nodes}"));
    let place = place.unwrap_or_default();
    Cause::Other { place, hint }
}
