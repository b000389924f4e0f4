//! A command line: the words of the input are its lines.
#![no_main]

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::iter;
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use vmm::cli::{self, Command};
use vmm::config::Config;

fuzz_target!(|data: &[u8]| {
    let words = data
        .split(|byte| *byte == b'\n')
        .map(|word| OsStr::from_bytes(word).to_owned());
    let words = iter::once(OsString::from("ballast")).chain(words);
    match cli::parse(words) {
        Ok(Command::Run(args)) => match Config::new(args) {
            Ok(config) => check(&config),
            Err(error) => check_error(&error),
        },
        Ok(Command::Help(text)) => assert!(!text.is_empty()),
        Ok(Command::Version | Command::Doctor) => {}
        Err(error) => check_error(&error),
    }
});

/// What later stages take for granted.
fn check(config: &Config) {
    assert!(config.topology.vcpus() > 0);
    let sizes = config
        .backends
        .iter()
        .map(|backend| u128::from(backend.size.bytes()));
    assert_eq!(sizes.sum::<u128>(), config.memory.bytes().into());
    assert!(config.backends.iter().all(|backend| backend.size.bytes() > 0));
}

/// A refusal says something, in one line each.
fn check_error(error: &dyn Error) {
    let causes = iter::successors(Some(error), |error| (*error).source());
    for text in causes.map(ToString::to_string) {
        assert!(!text.is_empty(), "an error without words");
    }
}
