//! Lists of numbers as the kernel writes them: `0-1,3`.

use std::collections::BTreeSet;
use std::fmt;

/// A list of numbers and ranges up to `max`; `None` when malformed. An empty text is an empty list.
pub(super) fn parse(text: &str, max: u32) -> Option<BTreeSet<u32>> {
    let mut numbers = BTreeSet::new();
    for part in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<u32>().ok()).flatten()
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last > max {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

/// Writes neighbours as a range.
pub(super) fn write(f: &mut fmt::Formatter<'_>, numbers: &BTreeSet<u32>) -> fmt::Result {
    let mut rest = numbers.iter().copied().peekable();
    let mut comma = "";
    while let Some(first) = rest.next() {
        let mut last = first;
        while let Some(next) = rest.next_if_eq(&(last + 1)) {
            last = next;
        }
        match last - first {
            0 => write!(f, "{comma}{first}")?,
            _ => write!(f, "{comma}{first}-{last}")?,
        }
        comma = ",";
    }
    Ok(())
}
