//! What is promised: the budgets, and a figure with its budget.

use std::fmt;

use serde::{Serialize, Serializer};

use super::measured::Measured;

/// What a figure may be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Budget {
    /// Ballast's own value at most.
    Value(f64),
    /// The ratio at most, where less is better.
    AtMost(f64),
    /// The ratio at least, where more is better.
    AtLeast(f64),
}

/// The figures that have one.
pub const BUDGETS: [(&str, Budget); 20] = [
    ("overhead.own", Budget::Value(2.0)),
    ("overhead.anonymous", Budget::Value(0.3)),
    ("boot.user-space", Budget::AtMost(0.8)),
    ("start.512-gib", Budget::AtMost(1.2)),
    ("prealloc.4k.1-thread.loop", Budget::AtLeast(0.95)),
    ("prealloc.4k.2-threads.loop", Budget::AtLeast(0.95)),
    ("prealloc.thp.1-thread.loop", Budget::AtLeast(0.95)),
    ("prealloc.thp.2-threads.loop", Budget::AtLeast(0.95)),
    ("prealloc.2m.1-thread.loop", Budget::AtLeast(0.95)),
    ("prealloc.2m.2-threads.loop", Budget::AtLeast(0.95)),
    ("prealloc.4k.1-thread.qemu", Budget::AtLeast(1.0)),
    ("prealloc.4k.2-threads.qemu", Budget::AtLeast(1.0)),
    ("prealloc.thp.1-thread.qemu", Budget::AtLeast(1.0)),
    ("prealloc.thp.2-threads.qemu", Budget::AtLeast(1.0)),
    ("prealloc.2m.1-thread.qemu", Budget::AtLeast(1.0)),
    ("prealloc.2m.2-threads.qemu", Budget::AtLeast(1.0)),
    ("balloon.anonymous.inflate-cpu", Budget::AtMost(0.5)),
    ("balloon.memfd.inflate-cpu", Budget::AtMost(0.5)),
    ("balloon.hugetlb.inflate-cpu", Budget::AtMost(0.5)),
    ("qmp.inflate.p99", Budget::Value(50.0)),
];

impl Budget {
    /// The budget of a figure.
    pub fn of(name: &str) -> Option<Budget> {
        let found = BUDGETS.iter().find(|(of, _)| *of == name);
        found.map(|(_, budget)| *budget)
    }

    /// Whether a figure keeps to it. What has no ratio keeps to no budget for one.
    pub fn holds(self, measured: &Measured) -> bool {
        match self {
            Budget::Value(limit) => measured.value <= limit,
            Budget::AtMost(limit) => measured.ratio.is_some_and(|ratio| ratio <= limit),
            Budget::AtLeast(limit) => measured.ratio.is_some_and(|ratio| ratio >= limit),
        }
    }
}

impl fmt::Display for Budget {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Budget::Value(limit) => write!(out, "value <= {limit}"),
            Budget::AtMost(limit) => write!(out, "ratio <= {limit}"),
            Budget::AtLeast(limit) => write!(out, "ratio >= {limit}"),
        }
    }
}

impl Serialize for Budget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A line of the table, and an element of `bench.json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The figure.
    #[serde(flatten)]
    pub measured: Measured,
    /// What it may be.
    pub budget: Option<Budget>,
    /// Whether it is, where there is a budget.
    pub within: Option<bool>,
}

impl Row {
    /// The figure with its budget.
    pub fn new(measured: Measured) -> Row {
        let budget = Budget::of(&measured.name);
        let within = budget.map(|budget| budget.holds(&measured));
        Row {
            measured,
            budget,
            within,
        }
    }
}

#[cfg(test)]
mod tests;
