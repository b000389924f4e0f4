//! What a balloon does besides moving: statistics, free page reporting, help for a guest in need, and control that a guest
//! cannot hold up.

use std::time::Duration;

use serde_json::{Value, json};
use tests::harness::Result;
use tests::harness::qmp::Qmp;

mod flood;
mod kexec;
mod need;
mod reporting;
mod statistics;

const MEBIBYTE: u64 = 1 << 20;
/// How long a guest may take to do what it is asked.
const PATIENCE: Duration = Duration::from_secs(90);
/// Where the balloon is in the object model.
const PATH: &str = "/machine/peripheral/balloon0";

/// Everything that is known about the balloon.
fn query(qmp: &mut Qmp) -> Result<Value> {
    qmp.command("x-ballast-query-balloon", Value::Null)
}

fn get(qmp: &mut Qmp, property: &str) -> Result<Value> {
    qmp.command("qom-get", json!({ "path": PATH, "property": property }))
}

fn set(qmp: &mut Qmp, property: &str, value: &Value) -> Result<Value> {
    let arguments = json!({ "path": PATH, "property": property, "value": value });
    qmp.command("qom-set", arguments)
}
