//! Licences, banned crates, sources, and known defects of the crates that we use.

use std::fs;

use super::super::paths::Paths;
use super::super::{Error, Result, build, process};
use super::report::Report;

/// Checks what `deny.toml` says.
pub fn check(paths: &Paths, report: &mut Report) {
    let deny = |name: &str, arguments: &[&str]| {
        let mut command = build::cargo(paths);
        command.arg("deny").args(arguments);
        process::logged(&mut command, &paths.logs().join(format!("{name}.log")))
    };
    report.check("licences, bans, sources", || {
        deny("deny", &["check", "licenses", "bans", "sources"])
    });
    // Defects are told by a database elsewhere, which is not always within reach.
    match deny("advisories-fetch", &["fetch", "db"]).and_then(|()| fetched(paths)) {
        Ok(()) => report.check("advisories", || {
            deny("advisories", &["check", "--disable-fetch", "advisories"])
        }),
        Err(error) => {
            let text = error.to_string();
            let reason = text
                .lines()
                .rfind(|line| line.contains("error") || line.contains("Error"));
            let reason = reason
                .or(text.lines().last())
                .unwrap_or("the database cannot be had")
                .trim();
            report.note(format!("advisories: NOT CHECKED ({reason})"));
        }
    }
}
