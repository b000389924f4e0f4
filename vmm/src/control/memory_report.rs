//! What is known about the guest's memory, for programs and for people.
//!
//! Three things stay apart: what was asked (the specification), what took effect (read back at the start), and what the
//! host holds now (read when asked). Nothing here touches the guest's memory.

use std::fmt::Write;
use std::time::Duration;

use memory::backend::{BackendKind, Lock, Thp};
use memory::host::ksm::{self, HostKsm, OwnKsm};
use memory::ram::{OpenBackend, Ram};
use memory::residency::{NodeResidency, Residency};
use memory::size::ByteSize;
use serde_json::{Value, json};

use super::balloon_report;
use super::target::{Target, backends};
use crate::sampler::Sample;

/// A backend as `query-memdev` shows it: what was asked, in QEMU's words, with our defaults filled in.
pub(super) struct Asked {
    pub(super) merge: bool,
    pub(super) share: bool,
    pub(super) reserve: bool,
    pub(super) policy: &'static str,
    pub(super) nodes: Vec<u32>,
}

impl Asked {
    pub(super) fn of(backend: &OpenBackend) -> Asked {
        let spec = backend.spec();
        Asked {
            merge: spec.merge.wanted(),
            share: spec
                .share
                .unwrap_or(matches!(spec.kind, BackendKind::Memfd { .. })),
            reserve: spec.reserves(backend.page_size()),
            policy: spec.policy.name(),
            nodes: spec
                .policy
                .nodes()
                .map(|nodes| nodes.iter().collect())
                .unwrap_or_default(),
        }
    }
}

/// `query-memdev`. QEMU shows there what was configured; what took effect is a member of ours.
pub(super) fn memdev(target: &dyn Target) -> Value {
    let one = |backend: &OpenBackend| {
        let (spec, asked) = (backend.spec(), Asked::of(backend));
        json!({
            "id": spec.id,
            "size": spec.size.bytes(),
            "merge": asked.merge,
            "dump": spec.dump,
            "prealloc": spec.prealloc.wanted(),
            "share": asked.share,
            "reserve": asked.reserve,
            "host-nodes": asked.nodes,
            "policy": asked.policy,
            "x-ballast-effective": effective(backend),
        })
    };
    backends(target).map(one).collect()
}

/// `info memdev`, with a line of ours for what took effect.
pub(super) fn memdev_text(target: &dyn Target) -> String {
    let mut text = String::new();
    for backend in backends(target) {
        let (spec, asked) = (backend.spec(), Asked::of(backend));
        let nodes: Vec<String> = asked.nodes.iter().map(u32::to_string).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "memory backend: {}\n  size:  {}\n  merge: {}\n  dump: {}\n  prealloc: {}\n  share: {}\n  reserve: {}\n  \
             policy: {}\n  host nodes: {}\n  in effect: {}\n",
            spec.id,
            spec.size.bytes(),
            asked.merge,
            spec.dump,
            spec.prealloc.wanted(),
            asked.share,
            asked.reserve,
            asked.policy,
            nodes.join(" "),
            backend.summary(),
        );
    }
    text
}

/// All backends of which `sample` tells, each with its node in the guest, if it has one.
fn sampled<'a>(
    target: &'a dyn Target,
    sample: &'a Sample,
) -> impl Iterator<Item = (Option<u32>, &'a OpenBackend, &'a Residency)> {
    let guests = target.ram().backends().iter().zip(&sample.backends);
    let guests = guests.map(|(backend, now)| (Some(backend.spec().guest_node), backend, now));
    let others = target.objects().backends().iter();
    guests.chain(others.filter_map(|backend| Some((None, backend, sample.object(backend)?))))
}

/// `info placement`: a line for each backend, and one for each host node that has some of it.
pub(super) fn placement_text(target: &dyn Target, sample: &Sample) -> String {
    let mut text = String::new();
    for (node, backend, now) in sampled(target, sample) {
        let spec = backend.spec();
        let place = node.map_or("no guest node".to_owned(), |node| format!("guest node {node}"));
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{place}, backend {}: {}, policy {}",
            spec.id,
            backend.effective(),
            backend.effective().policy
        );
        let about = if now.nodes_exact { "" } else { "about " };
        for node in &now.nodes {
            let huge = node.transparent_huge.filter(|huge| *huge > ByteSize::ZERO);
            let huge = huge.map_or_else(String::new, |huge| {
                format!(", {about}{huge} of it transparent huge")
            });
            let _ = writeln!(
                text,
                "  host node {}: {about}{} in pages of {}{huge}",
                node.node, node.bytes, node.page_size
            );
        }
        let misplaced = match spec.policy.nodes() {
            Some(_) => format!(", misplaced {about}{}", now.misplaced),
            None => String::new(),
        };
        let _ = writeln!(
            text,
            "  resident {}, transparent huge {}, swapped {}, merged {}, locked {}{misplaced}",
            now.resident, now.transparent_huge, now.swapped, now.merged, now.locked,
        );
        let differs = backend.effective().differs(&spec);
        if !differs.is_empty() {
            let _ = writeln!(text, "  not as asked: {}", differs.join(", "));
        }
    }
    text
}

/// `x-ballast-query-memory`. The sums are of the guest's RAM; backends that are not the guest's have no node of it.
pub(super) fn memory(target: &dyn Target, sample: &Sample) -> Value {
    let resident: u64 = (sample.backends.iter())
        .map(|backend| backend.resident.bytes())
        .sum();
    let backends: Vec<Value> = sampled(target, sample)
        .map(|(node, backend, now)| report(node, backend, now))
        .collect();
    json!({
        "age-ms": milliseconds(sample.age()),
        "cost-ms": sample.cpu.as_secs_f64() * 1e3,
        "size": target.ram().size().bytes(),
        "resident": resident,
        "backends": backends,
        "balloon": target.balloon().map(balloon_report::balloon),
        "ksm": ksm::own().map(|own| own_ksm(&own)),
    })
}

/// Whole milliseconds.
pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn report(guest_node: Option<u32>, backend: &OpenBackend, now: &Residency) -> Value {
    let spec = backend.spec();
    // Null where there is no policy with nodes to compare with.
    let misplaced = spec.policy.nodes().map(|_| now.misplaced.bytes());
    let node = |node: &NodeResidency| {
        json!({
            "node": node.node,
            "page-size": node.page_size.bytes(),
            "bytes": node.bytes.bytes(),
            "transparent-huge": node.transparent_huge.map(ByteSize::bytes),
        })
    };
    let pool = backend.shortage().map(|pool| {
        json!({ "page-size": pool.page.bytes(), "total": pool.total, "free": pool.free, "reserved": pool.reserved })
    });
    json!({
        "id": spec.id,
        "guest-node": guest_node,
        "size": now.size.bytes(),
        "page-size": backend.page_size().bytes(),
        // Null where nothing was asked and the kind's default holds.
        "asked": {
            "share": spec.share,
            "reserve": spec.reserve,
            "prealloc": spec.prealloc.wanted(),
            "merge": spec.merge.wanted(),
            "dump": spec.dump,
            "thp": match spec.thp { Thp::Default => Value::Null, Thp::On => json!(true), Thp::Off => json!(false) },
            "lock": match spec.lock { Lock::Off => "off", Lock::On => "on", Lock::OnFault => "on-fault" },
            "policy": spec.policy.to_string(),
        },
        "effective": effective(backend),
        // What was asked and is not in effect.
        "differs": backend.effective().differs(&spec),
        "resident": now.resident.bytes(),
        "swapped": now.swapped.bytes(),
        "transparent-huge": now.transparent_huge.bytes(),
        "merged": now.merged.bytes(),
        "locked": now.locked.bytes(),
        "nodes": now.nodes.iter().map(node).collect::<Vec<_>>(),
        "nodes-exact": now.nodes_exact,
        "misplaced": misplaced,
        "not-released": backend.keeps(),
        "pool": pool,
        "warnings": backend.warnings(),
    })
}

fn effective(backend: &OpenBackend) -> Value {
    let effective = backend.effective();
    json!({
        "kind": effective.kind,
        "page-size": effective.page_size.bytes(),
        "share": effective.share,
        "reserve": effective.reserve,
        "prealloc": effective.prealloc,
        "merge": effective.merge,
        "thp": effective.thp,
        "lock": effective.lock,
        "dump": effective.dump,
        "policy": effective.policy,
    })
}

fn own_ksm(own: &OwnKsm) -> Value {
    json!({
        "merging-pages": own.merging_pages,
        "zero-pages": own.zero_pages,
        "rmap-items": own.rmap_items,
        "process-profit": own.profit,
    })
}

/// `info ksm`: what the host does, what this guest gained, and why it may have gained nothing.
pub(super) fn ksm_text(ram: &Ram) -> String {
    let mut text = match ksm::host() {
        None => return "This kernel has no KSM.\n".to_owned(),
        Some(host) => host_text(&host),
    };
    text.push_str(&match ksm::own() {
        None => "this guest: the kernel does not say\n".to_owned(),
        Some(own) => own_text(&own),
    });
    if !ram.backends().iter().any(|backend| backend.effective().merge) {
        text.push_str("No backend of this guest may be merged: see merge=on and -machine mem-merge=on.\n");
    }
    text
}

/// Figures of the host, by the kernel's names, that tell how fast it merges and how much it has.
const HOST_FIGURES: [&str; 6] = [
    "run",
    "pages_to_scan",
    "sleep_millisecs",
    "pages_shared",
    "pages_sharing",
    "full_scans",
];

fn host_text(host: &HostKsm) -> String {
    let figures = HOST_FIGURES
        .iter()
        .filter_map(|name| host.figure(name).map(|figure| format!("{name}={figure}")));
    let mut text = format!("host: {}\n", figures.collect::<Vec<_>>().join(" "));
    if !host.is_running() {
        let _ = writeln!(
            text,
            "KSM does not run on this host: 1 in /sys/kernel/mm/ksm/run starts it."
        );
    }
    text
}

fn own_text(own: &OwnKsm) -> String {
    format!(
        "this guest: ksm_merging_pages={} ksm_zero_pages={} ksm_rmap_items={} ksm_process_profit={}\n",
        own.merging_pages, own.zero_pages, own.rmap_items, own.profit
    )
}

#[cfg(test)]
mod tests;
