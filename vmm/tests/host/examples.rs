//! The unit of systemd in `resources/examples` starts what it says, within the limits that it sets.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use memory::size::{ByteSize, SizeUnit};
use vmm::cli::{self, Command as Wanted};
use vmm::config::{Config, QmpSpec, SerialSpec};

const UNIT: &str = "ballast@.service";

fn example(name: &str) -> String {
    let path = examples().join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../resources/examples")
}

/// The value of a key that is there once.
fn value<'a>(text: &'a str, key: &str) -> &'a str {
    let values: Vec<&str> = (text.lines())
        .filter_map(|line| line.strip_prefix(key)?.strip_prefix('='))
        .collect();
    assert_eq!(values.len(), 1, "{key}: {values:?}");
    values[0]
}

#[test]
fn the_unit_starts_a_guest_that_fits_into_its_limits() {
    let (unit, conf) = (example(UNIT), example("web.conf"));
    assert!(value(&unit, "EnvironmentFile").contains("/%i.conf"));
    // As systemd does: $OPTIONS alone is a word for each of its words.
    let line = value(&unit, "ExecStart").replace("%i", "web");
    let words = line.split_whitespace().flat_map(|word| match word {
        "$OPTIONS" => value(&conf, "OPTIONS").split_whitespace().collect(),
        word => vec![word],
    });
    let Wanted::Run(args) = cli::parse(words.map(OsString::from)).unwrap() else {
        panic!("{line}")
    };
    let config = Config::new(args).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.name.as_deref(), Some("web"));
    assert_eq!((config.serial, config.daemonize), (SerialSpec::Stdio, false));
    let directory = value(&unit, "RuntimeDirectory").replace("%i", "web");
    let path = Path::new("/run").join(directory).join("qmp");
    assert_eq!(config.qmp, [QmpSpec { path }]);
    let limit = ByteSize::parse(value(&unit, "MemoryMax"), SizeUnit::Byte).unwrap();
    let room = limit.bytes().checked_sub(config.memory.bytes());
    assert!(
        room.is_some_and(|room| room >= 64 << 20),
        "{limit} for {}",
        config.memory
    );
}

#[test]
fn systemd_understands_the_unit() {
    let directory = tempfile::tempdir().unwrap();
    let unit = directory.path().join("ballast@web.service");
    // Only a program that is there will do.
    let text = example(UNIT).replace("/usr/local/bin/ballast", env!("CARGO_BIN_EXE_ballast"));
    fs::write(&unit, text).unwrap();
    let verify = Command::new("systemd-analyze").arg("verify").arg(&unit).output();
    match verify {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            // Of other units of this machine nothing is to be said here.
            let ours: Vec<&str> = said.lines().filter(|line| line.contains("ballast@")).collect();
            assert!(ours.is_empty(), "{ours:#?}");
        }
        Err(error) => println!("NOT CHECKED: systemd-analyze: {error}"),
    }
}
