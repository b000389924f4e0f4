//! How preallocations stand, as QMP shows them, and how one is stopped.

use memory::ram::{PreallocReport, PreallocState};
use memory::size::ByteSize;
use serde_json::{Value, json};

use super::qmp::{Class, Failure};
use super::target::{Target, backends};

/// `x-ballast-query-prealloc`: every backend, also those without a preallocation.
pub(super) fn query(target: &dyn Target) -> Value {
    let one = |backend: &memory::ram::OpenBackend| {
        let report = backend.prealloc();
        let mut answer = json(&report);
        answer["mode"] = json!(backend.spec().prealloc.name());
        // Null where there is nothing to tell of.
        answer["rate"] = json!((report.state != PreallocState::None).then(|| report.rate()));
        answer["eta-ms"] = json!(report.eta().map(|eta| eta.as_millis()));
        answer
    };
    backends(target).map(one).collect()
}

/// `info prealloc`: a line for each backend.
pub(super) fn text(target: &dyn Target) -> String {
    backends(target)
        .map(|backend| line(&backend.prealloc()))
        .collect()
}

fn line(report: &PreallocReport) -> String {
    let PreallocReport { id, state, size, .. } = report;
    let mut text = format!("{id}: {}", self::state(state));
    if *state != PreallocState::None {
        let (populated, rate) = (report.populated, ByteSize::from_bytes(report.rate()));
        let parts = [
            Some(format!(", {} of {} MiB", whole(populated), whole(*size))),
            (report.skipped > ByteSize::ZERO)
                .then(|| format!(", {} MiB given back meanwhile", whole(report.skipped))),
            Some(format!(", {} MiB/s", whole(rate))),
            report.eta().map(|eta| format!(", {} s left", eta.as_secs())),
            state.trouble().map(|trouble| format!(": {trouble}")),
        ];
        text.extend(parts.into_iter().flatten());
    }
    text + "\n"
}

/// Whole MiB.
fn whole(size: ByteSize) -> u64 {
    size.bytes() >> 20
}

/// What the event tells, and the query too. Sizes in bytes.
pub(super) fn json(report: &PreallocReport) -> Value {
    json!({
        "id": report.id,
        "state": state(&report.state),
        "size": report.size.bytes(),
        "populated": report.populated.bytes(),
        "skipped": report.skipped.bytes(),
        "elapsed-ms": report.elapsed.as_millis(),
        "message": report.state.trouble(),
    })
}

fn state(state: &PreallocState) -> &'static str {
    match state {
        PreallocState::None => "none",
        PreallocState::Running => "running",
        PreallocState::Done => "done",
        PreallocState::Misplaced(_) => "misplaced",
        PreallocState::Cancelled => "cancelled",
        PreallocState::Failed(_) => "failed",
    }
}

/// `x-ballast-cancel-prealloc`: of one backend, or of all. That it has ended is an event.
pub(super) fn cancel(target: &dyn Target, id: Option<&str>) -> Result<(), Failure> {
    let mut backends = backends(target);
    let Some(id) = id else {
        // All of them, not only the first.
        let running = backends.filter(|backend| backend.cancel_fill()).count();
        return match running {
            0 => Err(Failure::generic("no preallocation is running")),
            _ => Ok(()),
        };
    };
    let backend = backends.find(|backend| backend.spec().id == id);
    let backend = backend.ok_or_else(|| Failure {
        class: Class::DeviceNotFound,
        desc: format!("Device '{id}' not found").into(),
    })?;
    match backend.cancel_fill() {
        true => Ok(()),
        false => Err(Failure::generic(format!(
            "no preallocation of backend '{id}' is running"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn people_get_a_line() {
        let mut report = PreallocReport {
            id: "mem0".to_owned(),
            state: PreallocState::Running,
            size: ByteSize::gib(1),
            populated: ByteSize::mib(254),
            skipped: ByteSize::mib(2),
            elapsed: Duration::from_secs(2),
        };
        assert_eq!(
            line(&report),
            "mem0: running, 254 of 1024 MiB, 2 MiB given back meanwhile, 127 MiB/s, 6 s left\n"
        );
        report.state = PreallocState::Failed("no page".to_owned());
        assert!(line(&report).ends_with(" MiB/s: no page\n"), "{}", line(&report));
        report.state = PreallocState::None;
        assert_eq!(line(&report), "mem0: none\n");
    }
}
