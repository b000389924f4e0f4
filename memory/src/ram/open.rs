//! The start of RAM, in its one right order.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use vm_memory::{GuestMemoryMmap, GuestRegionMmap};

use super::fill::Filling;
use super::limit;
use super::refusal::{forbidden, lock_error, map_error, policy_error};
use super::shortage::{self, Claim};
use super::{Inner, Misplaced, OpenBackend, Opened, RamError};
use crate::backend::{
    self, Backend, BackendSpec, HostPolicy, Lock, MergeRequest, OpenObserver, OpenStage, Prealloc, Thp,
};
use crate::effective::Effective;
use crate::given::Given;
use crate::hints;
use crate::host::{numa, thp};
use crate::layout::{self, LayoutError, Placement};
use crate::mapping::{Mapping, Span};
use crate::policy;
use crate::region::Region;

/// How many backends were opened.
static OPENED: AtomicU64 = AtomicU64::new(0);

/// A backend on its way.
struct Opening<'a> {
    spec: &'a BackendSpec,
    source: Box<dyn Backend>,
    mapping: Mapping,
    warnings: Vec<String>,
}

/// Everything but the preallocation.
pub(super) fn map(specs: &[BackendSpec], observer: &dyn OpenObserver) -> Result<Inner, RamError> {
    let (backends, placements) = map_backends(specs, observer)?;
    assemble(backends, &placements)
}

/// The same for a backend that is no part of a guest's RAM yet.
pub(super) fn open_alone(spec: &BackendSpec, observer: &dyn OpenObserver) -> Result<OpenBackend, RamError> {
    let (mut backends, _) = map_backends(std::slice::from_ref(spec), observer)?;
    Ok(backends.pop().ok_or(LayoutError::NoBackend)?)
}

fn map_backends(
    specs: &[BackendSpec],
    observer: &dyn OpenObserver,
) -> Result<(Vec<OpenBackend>, Vec<Placement>), RamError> {
    for spec in specs {
        spec.check()?;
        check_nodes(spec)?;
    }
    let sources = specs.iter().map(open_source).collect::<Result<Vec<_>, _>>()?;
    let sizes: Vec<_> = (specs.iter().zip(&sources))
        .map(|(spec, source)| (spec.size, source.page_size()))
        .collect();
    for (spec, source) in specs.iter().zip(&sources) {
        spec.check_opened(source.as_ref())?;
    }
    let placements = layout::place(&sizes)?;
    check_pools(specs, &sources)?;

    let mut opening = Vec::with_capacity(specs.len());
    for (index, (spec, source)) in specs.iter().zip(sources).enumerate() {
        let first = placements.iter().find(|placement| placement.backend == index);
        let guest_start = first.map_or(0, |placement| placement.guest.start.0);
        opening.push(prepare(spec, source, guest_start, observer)?);
    }
    let backends = opening
        .into_iter()
        .map(|opening| verify(opening, observer))
        .collect::<Result<Vec<_>, _>>()?;
    Ok((backends, placements))
}

fn check_nodes(spec: &BackendSpec) -> Result<(), RamError> {
    let Some(nodes) = spec.policy.nodes() else {
        return Ok(());
    };
    let available = numa::nodes();
    let missing = nodes.difference(&available);
    if !missing.is_empty() {
        return Err(RamError::Node {
            id: spec.id.clone(),
            nodes: missing,
            available,
        });
    }
    match numa::confined() {
        Some(allowed) if !nodes.is_subset(&allowed) => {
            Err(forbidden(spec, nodes.difference(&allowed), allowed))
        }
        _ => Ok(()),
    }
}

fn open_source(spec: &BackendSpec) -> Result<Box<dyn Backend>, RamError> {
    backend::open(spec).map_err(|source| RamError::Open {
        id: spec.id.clone(),
        source,
    })
}

fn check_pools(specs: &[BackendSpec], sources: &[Box<dyn Backend>]) -> Result<(), RamError> {
    let mut claims: Vec<(&str, Claim)> = Vec::new();
    for (spec, source) in specs.iter().zip(sources) {
        let page = source.page_size();
        if !page.is_huge() {
            continue;
        }
        let claim = Claim::new(spec, page);
        if spec.reserves(page) {
            shortage::check(&spec.id, &claim, &claims)?;
            claims.push((&spec.id, claim));
        } else {
            shortage::check_empty(&spec.id, &claim)?;
        }
    }
    Ok(limit::check(&claims)?)
}

/// Maps, hints, binds.
fn prepare<'a>(
    spec: &'a BackendSpec,
    source: Box<dyn Backend>,
    guest_start: u64,
    observer: &dyn OpenObserver,
) -> Result<Opening<'a>, RamError> {
    let id = || spec.id.clone();
    let mut warnings = check_room(spec, source.as_ref())?;
    let page = source.page_size();
    let mapping = source
        .map(spec.size, guest_start, spec.reserves(page))
        .map_err(|error| map_error(spec, source.as_ref(), error))?;
    observer.stage(&spec.id, OpenStage::Mapped);
    let hints = hints::apply(&mapping, source.as_ref(), spec);
    warnings.extend(hints.map_err(|source| RamError::Hint { id: id(), source })?);
    observer.stage(&spec.id, OpenStage::Hinted);
    policy::apply(&mapping, &spec.policy).map_err(|source| policy_error(spec, source))?;
    // The kernel never swaps huge pages, and does not mark them locked.
    if spec.lock != Lock::Off && !page.is_huge() {
        mapping.lock().map_err(|source| lock_error(spec, source))?;
    }
    observer.stage(&spec.id, OpenStage::Bound);
    if page.is_huge() && spec.reserve == Some(false) {
        warnings.push(format!(
            "backend '{}' has huge pages with reserve=off: the guest stops when the pool is empty",
            spec.id
        ));
    }
    Ok(Opening {
        spec,
        source,
        mapping,
        warnings,
    })
}

/// A file system with too little room: an error where all of it is taken now, else a warning.
fn check_room(spec: &BackendSpec, source: &dyn Backend) -> Result<Vec<String>, RamError> {
    let Some(room) = source.room().filter(|room| *room < spec.size) else {
        return Ok(Vec::new());
    };
    let error = RamError::Room {
        id: spec.id.clone(),
        needed: spec.size,
        place: source.describe(),
        room,
    };
    if spec.prealloc.wanted() || (source.page_size().is_huge() && spec.reserve != Some(false)) {
        return Err(error);
    }
    Ok(vec![error.to_string()])
}

/// Reads back what took effect and refuses what was typed and did not, but for what pages say that are still to come.
fn verify(opening: Opening<'_>, observer: &dyn OpenObserver) -> Result<OpenBackend, RamError> {
    let Opening {
        spec,
        source,
        mapping,
        mut warnings,
    } = opening;
    let effective = Effective::read(source.as_ref(), &mapping).map_err(|source| RamError::ReadBack {
        id: spec.id.clone(),
        source,
    })?;
    match spec.merge {
        MergeRequest::Default(true) if !effective.merge && warnings.is_empty() => {
            warnings.push(format!("mem-merge=on has no effect on backend '{}'", spec.id));
        }
        MergeRequest::On | MergeRequest::Default(_) | MergeRequest::Off => {}
    }
    let comes = spec.prealloc == Prealloc::On;
    check_effective(spec, source.as_ref(), &effective, !comes)?;
    if !comes {
        warnings.extend(check_placed(spec, &mapping, false)?.map(|misplaced| misplaced.to_string()));
        observer.stage(&spec.id, OpenStage::Verified);
    }
    let opened = Opened {
        serial: OPENED.fetch_add(1, Ordering::Relaxed),
        spec: Mutex::new(Arc::new(spec.clone())),
        effective: Mutex::new(Arc::new(effective)),
        gave_back: AtomicBool::new(false),
        given: Given::new(mapping.len(), source.page_size()),
        filling: Filling::default(),
        source,
        mapping,
    };
    Ok(OpenBackend {
        opened: Arc::new(opened),
        warnings,
        filler: Mutex::default(),
    })
}

/// Refuses what was typed and did not take effect; `complete`: all pages are there that were to come with the start.
pub(super) fn check_effective(
    spec: &BackendSpec,
    source: &dyn Backend,
    effective: &Effective,
    complete: bool,
) -> Result<(), RamError> {
    let policy = format!("policy={}", spec.policy);
    let has_policy = spec.policy == HostPolicy::Default
        || !numa::is_supported()
        || effective.policy == spec.policy.to_string();
    let lock = if spec.lock == Lock::On {
        "lock=on"
    } else {
        "lock=on-fault"
    };
    let asked = [
        ("merge=on", spec.merge != MergeRequest::On || effective.merge),
        ("thp=on", spec.thp != Thp::On || effective.thp),
        ("thp=off", spec.thp != Thp::Off || !effective.thp),
        (lock, spec.lock == Lock::Off || effective.lock),
        (
            "prealloc=on",
            !complete || spec.prealloc != Prealloc::On || effective.prealloc,
        ),
        // Shared memory is accounted for by being there.
        (
            "reserve=on",
            !complete || spec.reserve != Some(true) || effective.reserve,
        ),
        (policy.as_str(), has_policy),
    ];
    let Some((property, _)) = asked.iter().find(|(_, holds)| !holds) else {
        return Ok(());
    };
    Err(RamError::NotEffective {
        id: spec.id.clone(),
        property: (*property).to_owned(),
        what: source.describe(),
        hint: if *property == "thp=on" {
            thp::state()
        } else {
            String::new()
        },
    })
}

/// What lies elsewhere, which `strict=on` refuses; `complete`: all pages are there.
pub(super) fn check_placed(
    spec: &BackendSpec,
    mapping: &Mapping,
    complete: bool,
) -> Result<Option<Misplaced>, RamError> {
    let misplaced = Misplaced::find(spec, mapping, complete).map_err(|source| RamError::ReadBack {
        id: spec.id.clone(),
        source,
    })?;
    match misplaced {
        Some(misplaced) if spec.strict => Err(misplaced.into()),
        other => Ok(other),
    }
}

fn assemble(backends: Vec<OpenBackend>, placements: &[Placement]) -> Result<Inner, RamError> {
    let mut regions = Vec::with_capacity(placements.len());
    let mut views = Vec::with_capacity(placements.len());
    for placement in placements {
        let backend = &backends[placement.backend];
        let span = Span {
            offset: placement.offset,
            len: placement.guest.len,
        };
        let view = backend
            .opened
            .mapping
            .view(span)
            .map_err(|source| RamError::ReadBack {
                id: backend.spec().id.clone(),
                source,
            })?;
        // None only when the range ends above 2^64, which the layout excludes.
        views.extend(GuestRegionMmap::with_arc(view, placement.guest.start));
        regions.push(Region {
            guest: placement.guest,
            host_address: backend.opened.mapping.address() + placement.offset,
            backend: placement.backend,
            offset: placement.offset,
            page: backend.page_size(),
        });
    }
    let memory = GuestMemoryMmap::from_regions(views).map_err(|source| RamError::Assemble { source })?;
    Ok(Inner {
        memory,
        regions,
        backends,
    })
}

#[cfg(test)]
mod tests;
