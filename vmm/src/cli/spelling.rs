//! One form for every spelling of an option: `-m 1G`, `--m 1G` and `--m=1G` all become `--m=1G`.
//!
//! Joining a value to its option also means that clap never takes a value such as `-quiet` for an option: whatever
//! follows an option that needs a value is that value, as with QEMU.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use clap::ArgAction;

use super::{Error, near};

/// A command line in one form.
#[derive(Debug, PartialEq)]
pub(super) enum Spelled {
    /// Options, `--flag` or `--name=VALUE` each.
    Options(Vec<OsString>),
    /// A word asks for help.
    Help,
    /// A word asks for the version.
    Version,
}

/// Brings `words` into one form; `options` says which names there are and which of them take a value.
pub(super) fn normalise(options: &clap::Command, words: Vec<OsString>) -> Result<Spelled, Error> {
    let mut spelled = Vec::with_capacity(words.len());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let shown = || word.to_string_lossy().into_owned();
        let (name, joined) = split(&word).ok_or_else(|| Error::StrayWord { word: shown() })?;
        if matches!(name, "h" | "help") {
            return Ok(Spelled::Help);
        }
        if matches!(name, "V" | "version") {
            return Ok(Spelled::Version);
        }
        let option = find(options, name).ok_or_else(|| Error::UnknownOption {
            word: shown(),
            near: near::did_you_mean(name, "-", names(options)),
        })?;
        let value = match (takes_value(option), joined) {
            (false, None) => None,
            (false, Some(_)) => {
                return Err(Error::ValueUnexpected {
                    option: format!("-{name}"),
                });
            }
            (true, Some(value)) => Some(value.to_owned()),
            (true, None) => Some(words.next().ok_or_else(|| Error::ValueMissing {
                option: shown(),
                value: value_name(option),
            })?),
        };
        let mut one = OsString::from(format!("--{name}"));
        if let Some(value) = value {
            one.push("=");
            one.push(value);
        }
        spelled.push(one);
    }
    Ok(Spelled::Options(spelled))
}

/// The name in a word `-name`, `--name` or `--name=VALUE`, and the value.
fn split(word: &OsStr) -> Option<(&str, Option<&OsStr>)> {
    let bytes = word.as_bytes();
    let (name, value) = match bytes.strip_prefix(b"--") {
        Some(rest) => match rest.iter().position(|byte| *byte == b'=') {
            Some(at) => (&rest[..at], Some(OsStr::from_bytes(&rest[at + 1..]))),
            None => (rest, None),
        },
        None => (bytes.strip_prefix(b"-")?, None),
    };
    let name = str::from_utf8(name).ok()?;
    (!name.is_empty()).then_some((name, value))
}

fn find<'a>(options: &'a clap::Command, name: &str) -> Option<&'a clap::Arg> {
    options.get_arguments().find(|option| {
        option.get_long() == Some(name)
            || option
                .get_all_aliases()
                .is_some_and(|aliases| aliases.contains(&name))
    })
}

fn names(options: &clap::Command) -> impl Iterator<Item = &str> {
    options.get_arguments().filter_map(clap::Arg::get_long)
}

/// Whether an option is followed by a value.
pub(super) fn takes_value(option: &clap::Arg) -> bool {
    matches!(option.get_action(), ArgAction::Set | ArgAction::Append)
}

/// What the value of an option looks like.
pub(super) fn value_name(option: &clap::Arg) -> String {
    option
        .get_value_names()
        .unwrap_or_default()
        .first()
        .map(ToString::to_string)
        .unwrap_or_default()
}
