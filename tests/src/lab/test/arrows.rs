//! Which crate of the workspace may use which.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::super::paths::Paths;
use super::super::{Error, Result, build, process};

/// The only arrows between crates; the fuzz targets are a workspace of their own.
const ARROWS: [(&str, &[&str]); 5] = [
    ("memory", &[]),
    ("devices", &["memory"]),
    ("boot", &["memory"]),
    ("vmm", &["boot", "devices", "memory"]),
    ("tests", &[]),
];

/// Compares the manifests with the arrows. Dependencies of tests count, but a crate may use itself there for a feature.
pub fn check(paths: &Paths) -> Result<()> {
    let mut command = build::cargo(paths);
    command.args(["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let text = process::capture(&mut command)?;
    let metadata =
        serde_json::from_str(&text).map_err(|error| Error::Failed(format!("cargo metadata: {error}")))?;
    let wrong = wrong(&found(&metadata));
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Error::Failed(wrong.join("\n")))
    }
}

/// The workspace's crates, and which of them each one uses.
fn found(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let name = |value: &Value| value["name"].as_str().unwrap_or_default().to_owned();
    let packages = list(&metadata["packages"]);
    let uses = |package: &Value| {
        // What has a path lies in this workspace.
        let local = list(&package["dependencies"])
            .into_iter()
            .filter(|dependency| dependency["path"].is_string());
        local
            .map(|dependency| name(&dependency))
            .filter(|used| *used != name(package))
            .collect()
    };
    packages
        .iter()
        .map(|package| (name(package), uses(package)))
        .collect()
}

fn wrong(found: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    let allowed: BTreeMap<&str, &[&str]> = ARROWS.into_iter().collect();
    let mut wrong = Vec::new();
    for (name, uses) in found {
        let Some(may) = allowed.get(name.as_str()) else {
            wrong.push(format!("{name} is not one of the crates that the house has"));
            continue;
        };
        wrong.extend(
            uses.iter()
                .filter(|used| !may.contains(&used.as_str()))
                .map(|used| format!("{name} may not use {used}")),
        );
    }
    wrong
}

#[cfg(test)]
mod tests;
