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
            let reason = text.lines().last().unwrap_or_default().trim();
            report.note(format!("advisories: NOT CHECKED ({reason})"));
        }
    }
}

/// `cargo deny fetch` succeeds when it could not fetch; what it says tells.
fn fetched(paths: &Paths) -> Result<()> {
    let log = paths.logs().join("advisories-fetch.log");
    let text = fs::read_to_string(&log).map_err(Error::file("read", &log))?;
    if !text.contains("[ERROR]") {
        return Ok(());
    }
    let fatal = text.lines().rfind(|line| line.starts_with("fatal"));
    Err(Error::Failed(
        fatal.unwrap_or("the database cannot be fetched").to_owned(),
    ))
}
