//! What a guest's kernel finds wrong.

use std::collections::BTreeSet;
use std::io::Write;

use super::agent::Agent;
use super::{Error, Result};

/// How many lines the kernel's log has, and those which may be complaints: all that are above notices, and some words.
const SUSPECT: &str = "dmesg -r >/tmp/log; wc -l </tmp/log; \
    grep -iE '^<[0-4]>|^<[0-9]{2,}>|BUG|WARNING|ACPI (Error|Warning)|nobody cared|lockup' /tmp/log; true";
/// The list beside the guest's kernel.
const ALLOWED: &str = include_str!("../../../resources/guest/dmesg.allow");

/// What the kernel of a booted guest complains of, by its log.
///
/// # Errors
/// When the guest does not answer, or its log is too short to be one.
pub fn of<W: Write>(agent: &mut Agent<W>) -> Result<Vec<String>> {
    // Not everything over the serial port: each of its bytes is an exit of the guest.
    let log = agent.exec(SUSPECT)?;
    let lines = log.lines().next().and_then(|first| first.trim().parse().ok());
    match lines {
        Some(51_u32..) => Ok(complaints(&log, &allowed(ALLOWED))),
        _ => Err(Error::Agent {
            request: SUSPECT.to_owned(),
            status: 0,
            output: log,
        }),
    }
}

/// What such a list allows: lines, without those that give reasons.
fn allowed(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect()
}

/// Lines of `dmesg -r` at level err or worse, or with words that mean trouble, which contain nothing that is allowed.
fn complaints(log: &str, allowed: &BTreeSet<String>) -> Vec<String> {
    let marks = [
        "BUG",
        "WARNING",
        "ACPI Error",
        "ACPI Warning",
        "nobody cared",
        "soft lockup",
    ];
    let bad = |line: &&str| {
        // `<6>` is facility × 8 + level.
        let number = line.strip_prefix('<').and_then(|rest| rest.split_once('>'));
        let level = number
            .and_then(|(number, _)| number.parse::<u32>().ok())
            .map(|number| number % 8);
        level.is_some_and(|level| level <= 3)
            || marks.iter().any(|mark| line.contains(mark))
            || line.to_lowercase().contains("firmware bug")
    };
    let excused = |line: &&str| allowed.iter().any(|part| line.contains(part.as_str()));
    log.lines()
        .filter(bad)
        .filter(|line| !excused(line))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_are_recognised() {
        let log = "<6>[ 0.1] fine\n<3>[ 0.2] broken\n<4>[ 0.3] WARNING: odd\n<12>[ 0.4] [Firmware Bug]: x\n<30>[ 0.5] init: y\n";
        let none = BTreeSet::new();
        assert_eq!(complaints(log, &none).len(), 3);
        let excused = BTreeSet::from(["WARNING: odd".to_owned()]);
        assert_eq!(complaints(log, &excused).len(), 2);
    }

    #[test]
    fn the_list_of_excuses_is_read() {
        let excuses = allowed("# A list.\n\n# A reason.\nan excuse: 1\n");
        assert_eq!(excuses, BTreeSet::from(["an excuse: 1".to_owned()]));
        // An empty line, or a reason taken for an excuse, would excuse everything.
        assert!(
            allowed(ALLOWED)
                .iter()
                .all(|line| line.len() > 3 && !line.starts_with('#'))
        );
    }
}
