//! What the tests came to.

use std::time::{Duration, Instant};

use super::super::Result;

/// How many of the longest are told.
const LONGEST: usize = 10;

/// One test or check.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is called.
    pub name: String,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Everything that ran so far.
#[derive(Debug)]
pub struct Report {
    cases: Vec<Case>,
    notes: Vec<String>,
    sections: Vec<(String, Instant)>,
}

impl Report {
    /// Nothing ran yet.
    pub fn new() -> Report {
        Report {
            cases: Vec::new(),
            notes: Vec::new(),
            sections: Vec::new(),
        }
    }

    /// Begins a section.
    pub fn section(&mut self, name: &str) {
        println!("\n== {name}");
        self.sections.push((name.to_owned(), Instant::now()));
    }

    /// Adds a case and tells how it went.
    pub fn add(&mut self, case: Case) {
        println!("{}", told(&case));
        self.cases.push(case);
    }

    /// Adds a case that was told already.
    pub fn add_quietly(&mut self, case: Case) {
        self.cases.push(case);
    }

    /// Runs a check and adds it.
    pub fn check(&mut self, name: &str, run: impl FnOnce() -> Result<()>) {
        let start = Instant::now();
        let failure = run().err().map(|error| chain(&error));
        self.add(Case {
            name: name.to_owned(),
            took: start.elapsed(),
            failure,
        });
    }

    /// Adds something that the reader has to know and that is no failure; it is told again at the end.
    pub fn note(&mut self, text: String) {
        println!("{text}");
        self.notes.push(text);
    }

    /// Tells the summary, whose last line says how many passed and failed; returns the exit code.
    pub fn finish(mut self) -> u8 {
        println!("\n== summary");
        let ends = self
            .sections
            .iter()
            .skip(1)
            .map(|(_, start)| *start)
            .chain([Instant::now()]);
        for ((name, start), end) in self.sections.iter().zip(ends) {
            println!("{:>8.1} s  {name}", end.duration_since(*start).as_secs_f64());
        }
        println!("ten longest:");
        self.cases.sort_by_key(|case| std::cmp::Reverse(case.took));
        for case in self.cases.iter().take(LONGEST) {
            println!("{:>8.1} s  {}", case.took.as_secs_f64(), case.name);
        }
        for note in &self.notes {
            println!("{note}");
        }
        let failed: Vec<&Case> = self.cases.iter().filter(|case| case.failure.is_some()).collect();
        for case in &failed {
            println!("FAILED: {}", case.name);
        }
        println!(
            "{} passed, {} failed",
            self.cases.len() - failed.len(),
            failed.len()
        );
        u8::from(!failed.is_empty())
    }
}

impl Default for Report {
    fn default() -> Self {
        Report::new()
    }
}

/// How a case is told.
pub fn line(case: &Case) -> String {
    let verdict = if case.failure.is_some() { "FAILED" } else { "ok" };
    format!("{verdict:<6} {:>7.1} s  {}", case.took.as_secs_f64(), case.name)
}

/// How a case is told, and why it failed.
pub fn told(case: &Case) -> String {
    match &case.failure {
        Some(failure) => format!("{}\n{failure}", line(case)),
        None => line(case),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
