//! What Rust's test programs say.

use std::time::Duration;

/// The end of one test.
#[derive(Clone, Debug, PartialEq)]
pub struct TestLine {
    /// The test.
    pub name: String,
    /// How it went.
    pub verdict: Verdict,
    /// How long it took, if the program tells.
    pub took: Option<Duration>,
}

/// How a test went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passed.
    Passed,
    /// It failed.
    Failed,
    /// It did not run.
    Ignored,
}

/// Reads `test NAME ... ok <0.012s>` and its kin; other lines are none.
pub fn parse(line: &str) -> Option<TestLine> {
    let (name, rest) = line.trim_end().strip_prefix("test ")?.split_once(" ... ")?;
    let word = rest.split([' ', ',', '<']).next()?;
    let verdict = match word {
        "ok" => Verdict::Passed,
        "FAILED" => Verdict::Failed,
        "ignored" => Verdict::Ignored,
        _ => return None,
    };
    let seconds = rest
        .split_once('<')
        .and_then(|(_, time)| time.strip_suffix("s>")?.parse().ok());
    let name = name.trim_end_matches(" - should panic").to_owned();
    Some(TestLine {
        name,
        verdict,
        took: seconds.map(Duration::from_secs_f64),
    })
}

/// The test that was running when the output ended, if one was.
pub fn unfinished(output: &str) -> Option<&str> {
    let last = output.lines().rfind(|line| line.starts_with("test "))?;
    let (name, rest) = last.strip_prefix("test ")?.split_once(" ... ")?;
    rest.trim().is_empty().then_some(name)
}

#[cfg(test)]
mod tests;
