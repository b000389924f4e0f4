//! `-action`: what becomes of the machine when its guest ends or dies.

use super::keyval;
use super::properties::ACTION;
use super::value::ValueError;

/// What follows a panic of the guest's kernel, of which pvpanic tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PanicAction {
    /// The machine ends, as when the guest powers itself down.
    #[default]
    Shutdown,
    /// The machine ends, as a failure.
    ExitFailure,
    /// The machine stops and waits.
    Pause,
    /// Nothing: the guest goes on with what it does then.
    None,
}

/// The words of `panic=`.
const PANIC: &[(&str, PanicAction)] = &[
    ("shutdown", PanicAction::Shutdown),
    ("exit-failure", PanicAction::ExitFailure),
    ("pause", PanicAction::Pause),
    ("none", PanicAction::None),
];

/// `-action`, as far as it was typed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ActionArg {
    /// `reboot=shutdown`: a reset is the end.
    pub no_reboot: Option<bool>,
    /// `panic=`.
    pub panic: Option<PanicAction>,
}

/// `-action reboot=…,panic=…`.
pub fn action(text: &str) -> Result<ActionArg, ValueError> {
    let properties = ACTION.accept(keyval::split(text, None)?)?;
    properties.only("reboot", &["reset", "shutdown"])?;
    properties.only("shutdown", &["poweroff"])?;
    let panic = properties.text("panic").map(|text| {
        let found = PANIC.iter().find(|(word, _)| *word == text);
        found.map(|(_, action)| *action).ok_or_else(|| {
            let words: Vec<_> = PANIC.iter().map(|(word, _)| *word).collect();
            properties.wrong("panic", &words.join(" or "))
        })
    });
    Ok(ActionArg {
        no_reboot: properties.text("reboot").map(|word| word == "shutdown"),
        panic: panic.transpose()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_actions() {
        let read = action("reboot=shutdown,panic=pause,shutdown=poweroff").unwrap();
        assert_eq!(
            (read.no_reboot, read.panic),
            (Some(true), Some(PanicAction::Pause))
        );
        assert_eq!(action("reboot=reset").unwrap().no_reboot, Some(false));
        for (word, panic) in PANIC {
            assert_eq!(action(&format!("panic={word}")).unwrap().panic, Some(*panic));
        }
        for (wrong, part) in [
            ("panic=run", "expected shutdown or exit-failure or pause or none"),
            ("reboot=pause", "expected reset or shutdown"),
            ("shutdown=pause", "expected poweroff"),
            ("watchdog=reset", "no property 'watchdog'"),
        ] {
            let error = action(wrong).unwrap_err().to_string();
            assert!(error.contains(part), "{wrong}: {error}");
        }
    }
}
