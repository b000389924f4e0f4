//! What is known about the balloon, for programs and for people.
//!
//! The guest's claims (`actual`, `inflated`, statistics), what we did (`discarded` and its kin) and what the host holds
//! (`resident`) stay apart. Numbers of the guest are shown, never computed with.

use std::fmt::{Display, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use devices::virtio::balloon::{
    BackendFigures, BalloonCounters, BalloonHandle, BalloonReport, GuestStats, ReportingState, STAT_NAMES,
};
use memory::ram::{OpenBackend, Ram};
use memory::size::ByteSize;
use serde_json::{Map, Value, json};

use super::memory_report::milliseconds;
use crate::sampler::Sample;

/// The property `guest-stats`, as QEMU shows it: what the guest did not tell is the largest number.
pub(super) fn guest_stats(balloon: &BalloonHandle) -> Value {
    let last = balloon.stats();
    let mut stats: Map<String, Value> = STAT_NAMES
        .iter()
        .map(|name| ((*name).to_owned(), json!(u64::MAX)))
        .collect();
    for (name, value) in last.iter().flat_map(GuestStats::iter) {
        if let Some(value) = value {
            stats.insert(name.to_owned(), json!(value));
        }
    }
    json!({ "stats": stats, "last-update": last.map_or(0, |last| since_1970(last.last_update())) })
}

/// A clock before 1970 is no reason not to answer.
fn since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The balloon's part of `x-ballast-query-memory`.
pub(super) fn balloon(balloon: &BalloonHandle) -> Value {
    let report = balloon.report();
    let mut value = json!({
        "id": balloon.id(),
        "state": report.state.as_str(),
        "target": report.target.bytes(),
        "actual": report.actual.bytes(),
        "floor": report.floor.bytes(),
        "rate": report.rate,
        "eta": report.eta.map(|eta| eta.as_secs_f64()),
        "features": { "offered": report.offered, "accepted": report.accepted },
        "free-page-reporting": reporting(&report.reporting),
        "poison-value": report.poison_val,
        "inhibitors": inhibitors(&report),
        "stall": report.stall.as_ref().map(|stall| json!({
            "reason": stall.reason.as_str(),
            "message": stall.reason.to_string(),
            "seconds": stall.since.as_secs(),
        })),
        "stats-polling-interval": balloon.stats_interval().as_secs(),
        "stats": balloon.stats().map(|stats| statistics(&stats)),
    });
    for (name, bytes) in figures(&report.counters) {
        value[name] = json!(bytes);
    }
    value
}

/// Every counter, in bytes, by the name that programs and people read.
fn figures(counters: &BalloonCounters) -> [(&'static str, u64); 10] {
    [
        ("inflated", counters.inflated),
        ("discarded", counters.discarded),
        ("reported", counters.reported),
        ("partial", counters.partial),
        ("refused", counters.refused),
        ("failed", counters.failed),
        ("rounded", counters.rounded),
        ("unreserved", counters.unreserved),
        ("inhibited", counters.inhibited),
        ("poisoned", counters.poisoned),
    ]
}

fn reporting(state: &ReportingState) -> Value {
    match state {
        ReportingState::On => json!({ "state": "on" }),
        ReportingState::Off(reason) => json!({ "state": "off", "reason": reason }),
        ReportingState::NotNegotiated => json!({ "state": "not-negotiated" }),
    }
}

fn inhibitors(report: &BalloonReport) -> Value {
    let one = |(reason, count): &(String, u32)| json!({ "reason": reason, "count": count });
    report.inhibitors.iter().map(one).collect()
}

/// What the guest did not tell is null here.
fn statistics(stats: &GuestStats) -> Value {
    let unknown = |(tag, value): &(u16, u64)| json!({ "tag": tag, "value": value });
    json!({
        "known": stats.iter().map(|(name, value)| (name.to_owned(), json!(value))).collect::<Map<_, _>>(),
        "unknown": stats.unknown().iter().map(unknown).collect::<Vec<_>>(),
        "last-update": since_1970(stats.last_update()),
        "age-ms": milliseconds(stats.age()),
    })
}

/// A backend beside the balloon.
struct Share<'a> {
    backend: &'a OpenBackend,
    resident: ByteSize,
    figures: BackendFigures,
}

impl Share<'_> {
    fn size(&self) -> ByteSize {
        self.backend.size()
    }

    /// What came back to the guest of what was discarded, at least: more was discarded than the host lacks now. A page that
    /// was discarded twice counts, as one that came back in between.
    fn refaulted(&self) -> ByteSize {
        let absent = self.size().saturating_sub(self.resident);
        let discarded = self.figures.discarded.saturating_add(self.figures.reported);
        ByteSize::from_bytes(discarded).saturating_sub(absent)
    }
}

fn shares<'a>(ram: &'a Ram, sample: &'a Sample) -> impl Iterator<Item = Share<'a>> {
    let read = sample.backends.iter().zip(&sample.figures);
    ram.backends()
        .iter()
        .zip(read)
        .map(|(backend, (now, figures))| Share {
            backend,
            resident: now.resident,
            figures: *figures,
        })
}

/// `x-ballast-query-balloon`. What is said of backends is of one moment, `age-ms` ago; the balloon's own figures are of now.
pub(super) fn query(handle: &BalloonHandle, ram: &Ram, sample: &Sample) -> Value {
    let mut value = balloon(handle);
    let one = |share: Share| {
        json!({
            "id": share.backend.spec().id,
            "page-size": share.backend.page_size().bytes(),
            "size": share.size().bytes(),
            "inflated": share.figures.inflated,
            "discarded": share.figures.discarded,
            "reported": share.figures.reported,
            "partial": share.figures.partial,
            "resident": share.resident.bytes(),
            "refaulted": share.refaulted().bytes(),
            // Why nothing goes back to the host, where that is so.
            "keeps": share.backend.keeps(),
        })
    };
    value["age-ms"] = json!(milliseconds(sample.age()));
    value["backends"] = shares(ram, sample).map(one).collect();
    value
}

/// `info balloon`, as QEMU says it.
pub(super) fn short(balloon: &BalloonHandle) -> String {
    format!("balloon: actual={}\n", balloon.actual().bytes() >> 20)
}

/// `info balloon -v`.
pub(super) fn long(handle: &BalloonHandle, ram: &Ram, sample: &Sample) -> String {
    let report = handle.report();
    let mut text = short(handle);
    let mut line = |name: &str, value: &dyn Display| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {name}: {value}");
    };
    line("state", &report.state);
    if let Some(stall) = &report.stall {
        line(
            "stalled",
            &format_args!("for {} s: {}", stall.since.as_secs(), stall.reason),
        );
    }
    line("target", &report.target);
    line("floor", &report.floor);
    line("rate", &format_args!("{} MiB/s", report.rate / (1 << 20)));
    if let Some(eta) = report.eta {
        line("target reached in", &format_args!("{:.1} s", eta.as_secs_f64()));
    }
    for (name, bytes) in figures(&report.counters) {
        line(name, &ByteSize::from_bytes(bytes));
    }
    match &report.reporting {
        ReportingState::On => line("free page reporting", &"on"),
        ReportingState::Off(reason) => line("free page reporting", &format_args!("off: {reason}")),
        ReportingState::NotNegotiated => line("free page reporting", &"on, but no driver uses it"),
    }
    if let Some(value) = report.poison_val {
        line("free pages contain", &format_args!("{value:#010x}"));
    }
    for (reason, count) in &report.inhibitors {
        line("nothing is discarded", &format_args!("{reason} ({count})"));
    }
    line("features offered", &report.offered.join(", "));
    line("features accepted", &report.accepted.join(", "));
    for share in shares(ram, sample) {
        let keeps = share
            .backend
            .keeps()
            .map(|why| format!("; gives nothing back: {why}"));
        let [inflated, discarded, reported, partial] = [
            share.figures.inflated,
            share.figures.discarded,
            share.figures.reported,
            share.figures.partial,
        ]
        .map(ByteSize::from_bytes);
        let text = format_args!(
            "{} of {} resident, pages of {}; inflated {inflated}, discarded {discarded}, reported {reported}, \
                     partial {partial}, of all discarded {} or more taken again{}",
            share.resident,
            share.size(),
            share.backend.page_size().size(),
            share.refaulted(),
            keeps.unwrap_or_default()
        );
        line(&format!("backend '{}'", share.backend.spec().id), &text);
    }
    text
}

/// `info guest-stats`.
pub(super) fn stats_text(balloon: &BalloonHandle) -> String {
    let Some(stats) = balloon.stats() else {
        return "The guest has told no statistics yet.\n".to_owned();
    };
    let mut text = format!("age: {} ms\n", stats.age().as_millis());
    // Writing to a String cannot fail.
    for (name, value) in stats.iter() {
        let _ = match value {
            Some(value) => writeln!(text, "{name}: {value}"),
            None => writeln!(text, "{name}: unknown"),
        };
    }
    for (tag, value) in stats.unknown() {
        let _ = writeln!(text, "tag {tag}: {value}");
    }
    text
}

#[cfg(test)]
mod tests;
