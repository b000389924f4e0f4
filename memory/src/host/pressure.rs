//! How long work has waited for memory (Documentation/accounting/psi.rst).

use std::fs;

/// A line of `/proc/pressure/memory`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Percent of the last 10, 60 and 300 seconds.
    pub average: [f64; 3],
    /// Microseconds since the host booted.
    pub total: u64,
}

/// Memory pressure of the host.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Some task waited.
    pub some: Stall,
    /// All tasks waited.
    pub full: Stall,
}

/// Reads it; `None` on a kernel without pressure stall information, or with it switched off.
#[must_use]
pub fn memory() -> Option<Pressure> {
    parse(&fs::read_to_string("/proc/pressure/memory").ok()?)
}

/// Lines as `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`.
fn parse(text: &str) -> Option<Pressure> {
    let stall = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let value = |key: &str| line.split_whitespace().find_map(|word| word.strip_prefix(key));
        let average = |key| value(key)?.parse().ok();
        Some(Stall {
            average: [average("avg10=")?, average("avg60=")?, average("avg300=")?],
            total: value("total=")?.parse().ok()?,
        })
    };
    Some(Pressure {
        some: stall("some ")?,
        full: stall("full ")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_lines() {
        let text = "some avg10=1.50 avg60=0.25 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let found = parse(text).unwrap();
        assert_eq!((found.some.average, found.some.total), ([1.5, 0.25, 0.0], 12345));
        assert_eq!(found.full.total, 7);
        assert_eq!(parse("some avg10=x\n"), None);
        assert_eq!(parse(""), None);
    }
}
