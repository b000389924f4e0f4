//! What Ballast logs: one line an event, on standard error.
//!
//! There are no spans. So there is no need for a registry of them, which takes 32 KiB from the first event on.

use std::fmt::{Debug, Write as _};
use std::io::{Write as _, stderr};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};

/// The environment variable that says what is logged: a level, or levels by module (`vmm::starvation=debug,warn`).
const VARIABLE: &str = "BALLAST_LOG";

/// Begins to log. Without [`VARIABLE`] warnings, and with `verbose` what is worth knowing.
pub fn start(verbose: bool) {
    let default = if verbose {
        LevelFilter::INFO
    } else {
        LevelFilter::WARN
    };
    let asked = std::env::var(VARIABLE).ok();
    let filter = asked.and_then(|text| text.parse().ok());
    let log = Log {
        filter: filter.unwrap_or_else(|| Targets::new().with_default(default)),
        // Nobody can be told that it cannot be told.
        tell: |line| drop(stderr().write_all(line.as_bytes())),
    };
    if tracing::subscriber::set_global_default(log).is_err() {
        eprintln!("ballast: warning: somebody logs already");
    }
}

/// What is logged, and where to.
struct Log {
    filter: Targets,
    tell: fn(&str),
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && self.filter.would_enable(metadata.target(), metadata.level())
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(format!("{:>5}", event.metadata().level().as_str()));
        event.record(&mut line);
        line.0.push('\n');
        (self.tell)(&line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// A line on its way: the level, the message, other fields with their names.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let text = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
        debug_assert!(text.is_ok(), "a String takes all text");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    static LINES: Mutex<String> = Mutex::new(String::new());

    #[test]
    fn an_event_is_a_line() {
        let log = Log {
            filter: "vmm::log=debug,vmm=warn".parse().unwrap(),
            tell: |line| LINES.lock().unwrap().push_str(line),
        };
        tracing::subscriber::with_default(log, || {
            let error = std::io::Error::from_raw_os_error(libc::ENOENT);
            tracing::warn!("disk '{}' is slow", 7);
            tracing::debug!(%error, pages = ?[1, 2], what = "it", "not there");
            tracing::trace!("not told");
            tracing::info!(target: "vmm::other", "not told");
            tracing::error_span!("not told").in_scope(|| tracing::error!("told"));
        });
        let lines = LINES.lock().unwrap();
        let expected = " WARN disk '7' is slow\n\
            DEBUG not there error=No such file or directory (os error 2) pages=[1, 2] what=it\nERROR told\n";
        assert_eq!(*lines, expected);
    }
}
