//! How preallocations stand, as QMP shows them, and how one is stopped.

use memory::ram::{PreallocReport, PreallocState};
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
