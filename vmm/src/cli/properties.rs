//! Every property that an option's `key=value` list may have: one row each, for the check and for the help.

use std::ops::RangeInclusive;
use std::time::Duration;

use ::memory::size::{ByteSize, SizeUnit};

use self::devices::{
    BALLOON, BLK, CHARDEV_FILE, CHARDEV_NULL, CHARDEV_STDIO, CONSOLE, DRIVE, PVPANIC, RNG, RNG_BUILTIN,
    RNG_RANDOM, SERIAL_BUS, VSOCK,
};
use self::memory::{
    BACKEND_FILE, BACKEND_MEMFD, BACKEND_RAM, MACHINE, NUMA_CPU, NUMA_DIST, NUMA_NODE, OVERCOMMIT, RAM,
};
use self::net::{NET, NETDEV};
use super::keyval::{self, Pair};
use super::near;
use super::value::ValueError;

pub mod devices;
pub mod memory;
pub mod net;
pub mod vhost_user;

/// One property.
#[derive(Debug)]
pub struct Property {
    /// Its key.
    pub name: &'static str,
    /// The values it takes, for a person.
    pub values: &'static str,
    /// What holds when it is not given.
    pub default: &'static str,
    /// The unit of a bare number; empty where there is none.
    pub unit: &'static str,
    /// What it does.
    pub help: &'static str,
    /// A value that is accepted, for the tests.
    pub sample: &'static str,
}

impl Property {
    /// Its line in the help.
    pub fn describe(&self) -> String {
        let key = format!("{}={}", self.name, self.values);
        let unit = if self.unit.is_empty() {
            String::new()
        } else {
            format!("; a bare number is {}", self.unit)
        };
        let default = if self.default == "required" {
            String::new()
        } else {
            "default: ".to_owned()
        };
        format!("{key:<26} {}{unit} [{default}{}]", self.help, self.default)
    }
}

/// The properties of one object type, device or option.
#[derive(Debug)]
pub struct Family {
    /// The option they belong to, without a dash.
    pub option: &'static str,
    /// Whose they are, as errors and the help name it.
    pub owner: &'static str,
    /// Its rows, in groups that families may share.
    pub rows: &'static [&'static [Property]],
}

const fn row(
    name: &'static str,
    values: &'static str,
    default: &'static str,
    unit: &'static str,
    help: &'static str,
    sample: &'static str,
) -> Property {
    Property {
        name,
        values,
        default,
        unit,
        help,
        sample,
    }
}

#[rustfmt::skip]
const SOCKET: &[Property] = &[
    row("path", "PATH", "required", "", "socket file, at most 107 bytes; may be written without path=", "/run/b.sock"),
    row("server", "on", "on", "", "Ballast listens; it never connects", "on"),
    row("wait", "off", "off", "", "the guest starts without waiting for a client", "off"),
    row("nowait", "on", "on", "", "old spelling of wait=off", "on"),
];

/// `-smp`.
#[rustfmt::skip]
pub const SMP: Family = Family {
    option: "smp",
    owner: "-smp",
    rows: &[&[
        row("cpus", "1-254", "maxcpus", "", "number of vCPUs", "2"),
        row("sockets", "N", "1", "", "sockets that there is room in, filled one after the other", "1"),
        row("cores", "N", "what is left", "", "cores of a socket", "1"),
        row("threads", "N", "1, or what is left", "", "threads of a core, each one vCPU", "2"),
        row("maxcpus", "1-254", "cpus, or their product", "", "CPUs that the guest is told of; those above cpus= never come", "2"),
    ]],
};

/// `-cpu`, besides the features.
#[rustfmt::skip]
pub const CPU: Family = Family {
    option: "cpu",
    owner: "-cpu",
    rows: &[&[
        row("enforce", "on", "on", "", "what is asked for and missing ends the start", "on"),
        row("check", "on", "on", "", "the same", "on"),
        row("migratable", "on|off", "off", "", "there is no migration; changes nothing", "on"),
    ]],
};

/// `-name`.
#[rustfmt::skip]
pub const NAME: Family = Family {
    option: "name",
    owner: "-name",
    rows: &[&[
        row("guest", "NAME", "none", "", "name of the guest", "web"),
        row("debug-threads", "on|off", "on", "", "threads always have names; changes nothing", "on"),
    ]],
};

/// `-action`.
#[rustfmt::skip]
pub const ACTION: Family = Family {
    option: "action",
    owner: "-action",
    rows: &[&[
        row("reboot", "reset|shutdown", "reset", "", "after a reset: start again, or end as with -no-reboot", "shutdown"),
        row("shutdown", "poweroff", "poweroff", "", "after a power-off: end", "poweroff"),
        row("panic", "shutdown|exit-failure|pause|none", "shutdown", "", "after a panic that pvpanic tells: end, end with 2, stop, go on", "pause"),
    ]],
};

/// `-monitor unix:…`.
pub const MONITOR_SOCKET: Family = Family {
    option: "monitor",
    owner: "unix:PATH",
    rows: &[SOCKET],
};
/// `-qmp unix:…`.
pub const QMP_SOCKET: Family = Family {
    option: "qmp",
    owner: "unix:PATH",
    rows: &[SOCKET],
};

/// All there are, in the order of the help.
pub const FAMILIES: &[&Family] = &[
    &RAM,
    &SMP,
    &CPU,
    &NAME,
    &ACTION,
    &MACHINE,
    &OVERCOMMIT,
    &NUMA_NODE,
    &NUMA_DIST,
    &NUMA_CPU,
    &BACKEND_RAM,
    &BACKEND_MEMFD,
    &BACKEND_FILE,
    &RNG_RANDOM,
    &RNG_BUILTIN,
    &DRIVE,
    &CHARDEV_STDIO,
    &CHARDEV_FILE,
    &CHARDEV_NULL,
    &BALLOON,
    &RNG,
    &BLK,
    &NETDEV,
    &vhost_user::NETDEV,
    &vhost_user::BLK,
    &vhost_user::CHARDEV,
    &NET,
    &PVPANIC,
    &SERIAL_BUS,
    &CONSOLE,
    &VSOCK,
    &MONITOR_SOCKET,
    &QMP_SOCKET,
];

impl Family {
    /// Its properties.
    pub fn properties(&self) -> impl Iterator<Item = &'static Property> {
        self.rows.iter().copied().flatten()
    }

    /// Takes `pairs` if all of them are properties of this family.
    pub fn accept(&'static self, pairs: Vec<Pair>) -> Result<Properties, ValueError> {
        let names = || self.properties().map(|property| property.name);
        for (name, _) in &pairs {
            if !names().any(|known| known == name) {
                return Err(ValueError::UnknownProperty {
                    owner: self.owner.to_owned(),
                    name: name.clone(),
                    near: near::did_you_mean(name, "", names()),
                    accepted: names().collect::<Vec<_>>().join(", "),
                });
            }
        }
        Ok(Properties {
            owner: self.owner,
            pairs,
        })
    }
}

/// A list of properties whose names are known; the values are read one by one.
#[derive(Debug)]
pub struct Properties {
    owner: &'static str,
    pairs: Vec<Pair>,
}

impl Properties {
    /// The text of `name`; where it was given more than once, the last one, as with QEMU.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.all(name).last()
    }

    /// Every text of `name`, in order.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs
            .iter()
            .filter(move |(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// The text of `name`, which must be there and not empty.
    pub fn required(&self, name: &'static str) -> Result<&str, ValueError> {
        self.text(name)
            .filter(|text| !text.is_empty())
            .ok_or_else(|| ValueError::Missing {
                owner: self.owner.to_owned(),
                name,
            })
    }

    /// `name` as on or off.
    pub fn switch(&self, name: &str) -> Result<Option<bool>, ValueError> {
        self.text(name)
            .map(|value| keyval::switch(name, value))
            .transpose()
    }

    /// `name` as one of `words`, or as on or off.
    pub fn word<T: Copy>(
        &self,
        name: &str,
        words: &[(&str, T)],
        switch: impl FnOnce(bool) -> T,
    ) -> Result<Option<T>, ValueError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let found = words.iter().find(|(word, _)| *word == text);
        match (found, keyval::switch(name, text)) {
            (Some((_, value)), _) => Ok(Some(*value)),
            (None, Ok(on)) => Ok(Some(switch(on))),
            (None, Err(_)) => {
                let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                Err(self.wrong(name, &format!("on, off or {}", words.join(" or "))))
            }
        }
    }

    /// `name` as a size; a bare number counts `unit`s.
    pub fn size(&self, name: &str, unit: SizeUnit) -> Result<Option<ByteSize>, ValueError> {
        let read = |value: &str| {
            ByteSize::parse(value, unit).map_err(|source| ValueError::Size {
                name: name.to_owned(),
                value: value.to_owned(),
                source,
            })
        };
        self.text(name).map(read).transpose()
    }

    /// `name` as a whole number of seconds, as many as QEMU's timers take.
    pub fn seconds(&self, name: &str) -> Result<Option<Duration>, ValueError> {
        let read = |value: &str| {
            value
                .parse()
                .map(|seconds: u32| Duration::from_secs(seconds.into()))
                .map_err(|_| self.wrong(name, "seconds, a whole number up to 4294967295"))
        };
        self.text(name).map(read).transpose()
    }

    /// `name` as a whole number in `range`.
    pub fn number(&self, name: &str, range: RangeInclusive<u64>) -> Result<Option<u64>, ValueError> {
        let read = |value: &str| {
            let number = value.parse().ok().filter(|number| range.contains(number));
            number.ok_or_else(|| {
                let expected = format!("a whole number from {} to {}", range.start(), range.end());
                self.wrong(name, &expected)
            })
        };
        self.text(name).map(read).transpose()
    }

    /// `name` as an identifier: a letter, then letters, digits, `-`, `.` and `_`, as QEMU wants it.
    pub fn id(&self, name: &str) -> Result<Option<String>, ValueError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let starts = text.starts_with(|first: char| first.is_ascii_alphabetic());
        if starts
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        {
            return Ok(Some(text.to_owned()));
        }
        Err(self.wrong(name, "a letter followed by letters, digits, '-', '.' or '_'"))
    }

    /// The error for a value of `name` that cannot be.
    pub fn wrong(&self, name: &str, expected: &str) -> ValueError {
        ValueError::Property {
            name: name.to_owned(),
            value: self.text(name).unwrap_or_default().to_owned(),
            expected: expected.to_owned(),
        }
    }

    /// Refuses `name` unless it is absent or one of `words`.
    pub fn only(&self, name: &str, words: &[&str]) -> Result<(), ValueError> {
        match self.text(name) {
            Some(text) if !words.contains(&text) => Err(self.wrong(name, &words.join(" or "))),
            _ => Ok(()),
        }
    }
}
