//! The command line: words in, [`Args`] out. Nothing here opens or asks the host for anything.
//!
//! Options are spelled as QEMU spells them, with one dash or two. `spelling` brings every option into one form
//! (`--name=VALUE`) for clap, which the fields of [`Args`] describe; so those fields are the one table of options, from
//! which the help (`help`) is made too. Properties (`key=value,…`) have their own tables in [`properties`].

use std::error::Error as _;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args as _, FromArgMatches as _};
use memory::size::ByteSize;

use self::channel::{MonitorArg, QmpArg, SerialArg};
use self::chardev::ChardevArg;
use self::device::DeviceArg;
use self::disk::DriveArg;
use self::habits::Habits;
use self::lifecycle::ActionArg;
use self::memory_options::{MachineArg, ObjectArg, OvercommitArg};
use self::net::NetdevArg;
use self::numa_options::NumaArg;
use self::object::Object;
pub use self::value::ValueError;
use crate::cpu_features::CpuFeatures;
use crate::topology::Topology;

pub mod channel;
pub mod chardev;
pub mod console;
pub mod cpu;
pub mod device;
pub mod disk;
pub mod general;
pub mod habits;
mod help;
pub mod keyval;
pub mod lifecycle;
pub mod memory_options;
mod near;
pub mod net;
pub mod numa_options;
pub mod object;
pub mod properties;
pub mod rng;
mod spelling;
pub mod value;
pub mod vsock;

/// Why a command line was refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no first word.
    #[error("no command given; 'ballast run -kernel FILE' starts a guest, 'ballast --help' says more")]
    NoCommand,
    /// The first word is no command.
    #[error("'{word}' is not a command; 'ballast run …' starts a guest, 'ballast --help' says more")]
    UnknownCommand {
        /// The word.
        word: String,
    },
    /// No such option.
    #[error("unknown option '{word}'{near}; 'ballast run --help' lists the options")]
    UnknownOption {
        /// The option as it was typed.
        word: String,
        /// ", did you mean …" or nothing.
        near: String,
    },
    /// A word that belongs to no option.
    #[error("'{word}' belongs to no option; 'ballast run --help' lists the options")]
    StrayWord {
        /// The word.
        word: String,
    },
    /// The last option lacks its value.
    #[error("option '{option}' needs a value ({value})")]
    ValueMissing {
        /// The option as it was typed.
        option: String,
        /// What the value looks like.
        value: String,
    },
    /// A value was given to an option that takes none.
    #[error("option '{option}' takes no value")]
    ValueUnexpected {
        /// The option as it was typed.
        option: String,
    },
    /// The value of an option is wrong.
    #[error("{option} {value}")]
    Value {
        /// The option, with one dash.
        option: String,
        /// The value as it was typed.
        value: String,
        /// What is wrong with it.
        source: Box<ValueError>,
    },
    /// Anything else that clap refuses.
    #[error("{0}")]
    Parse(String),
}

/// What the user wants.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of these in a process")]
pub enum Command {
    /// Start a guest.
    Run(Args),
    /// Say what this machine has for guests.
    Doctor,
    /// Print this text.
    Help(String),
    /// Print the version.
    Version,
}

/// The options of `ballast run`, each checked by itself; [`crate::config`] checks them together.
///
/// The comments on the fields are the help texts.
#[derive(Clone, Debug, Default, PartialEq, clap::Args)]
#[command(disable_help_flag = true, args_override_self = true)]
pub struct Args {
    /// Linux kernel to start: a bzImage or an ELF vmlinux; required
    #[arg(long, value_name = "FILE", help_heading = "Guest")]
    pub kernel: Option<PathBuf>,

    /// Initial RAM disk; default: none
    #[arg(long, value_name = "FILE", help_heading = "Guest")]
    pub initrd: Option<PathBuf>,

    /// Command line of the kernel (console=ttyS0 shows it on the serial port); default: empty
    #[arg(long, value_name = "TEXT", help_heading = "Guest")]
    pub append: Option<String>,

    /// Number of vCPUs, 1 to 254, and the sockets, cores and threads that they are; default: 1
    #[arg(long, value_name = "[cpus=]N,…", value_parser = general::smp, help_heading = "Guest")]
    pub smp: Option<Topology>,

    /// The processor that the guest sees: the host's, but for single features, with QEMU's names: +FEATURE or FEATURE=on asks for one
    /// that this KVM may lack, and fails without it; -FEATURE or FEATURE=off takes one away; default: host
    #[arg(long, value_name = "host,±FEATURE,…", value_parser = cpu::cpu, help_heading = "Guest")]
    pub cpu: Option<CpuFeatures>,

    /// Name of the guest, for query-name; default: none
    #[arg(long, value_name = "[guest=]NAME", value_parser = general::name, help_heading = "Guest")]
    pub name: Option<String>,

    /// Build everything, fill preallocated memory, but let no vCPU run before 'cont'; default: run at once
    #[arg(long = "S", help_heading = "Guest")]
    pub start_paused: bool,

    /// A reset of the guest ends Ballast; default: the guest starts again
    #[arg(long, help_heading = "Guest")]
    pub no_reboot: bool,

    /// What becomes of the machine when its guest resets, or its kernel panics; default: see below
    #[arg(long, value_name = "EVENT=ACTION,…", value_parser = lifecycle::action, help_heading = "Guest")]
    pub action: Vec<ActionArg>,

    /// Machine-wide settings; default: none of them
    #[arg(long, alias = "M", value_name = "[type=]TYPE,PROPERTY=VALUE,…", value_parser = memory_options::machine,
          help_heading = "Guest")]
    pub machine: Vec<MachineArg>,

    /// RAM of the guest, in MiB or with a suffix K, M, G or T; default: 128M, or the size of the backend named by
    /// -machine or -numa
    #[arg(long = "m", value_name = "[size=]SIZE", value_parser = memory_options::ram_size, help_heading = "Memory")]
    pub memory: Option<ByteSize>,

    /// Take RAM from an unlinked file in this directory, on hugetlbfs (huge pages) or tmpfs, or from this file; default:
    /// anonymous memory
    #[arg(long, value_name = "PATH", help_heading = "Memory")]
    pub mem_path: Option<PathBuf>,

    /// Fill RAM before the guest starts, as prealloc=on does for every backend; default: on first touch
    #[arg(long, help_heading = "Memory")]
    pub mem_prealloc: bool,

    /// A memory backend: where pages come from; or a source of random bytes. Repeatable; default: one backend 'ram' of
    /// anonymous memory
    #[arg(long, value_name = "TYPE,id=ID,…", value_parser = object::object, help_heading = "Memory")]
    pub object: Vec<Object>,

    /// What guests may take together: whether RAM may be swapped out; default: mem-lock=off
    #[arg(long, value_name = "PROPERTY=VALUE,…", value_parser = memory_options::overcommit, help_heading = "Memory")]
    pub overcommit: Vec<OvercommitArg>,

    /// The guest's NUMA nodes, their distances and their vCPUs. Repeatable; default: one node with all RAM
    #[arg(long, value_name = "node|dist|cpu,PROPERTY=VALUE,…", value_parser = numa_options::numa, help_heading = "Memory")]
    pub numa: Vec<NumaArg>,

    /// A disk image, and how the guest sees it. Repeatable; default: none
    #[arg(long, value_name = "file=PATH,format=raw,…", value_parser = disk::drive, help_heading = "Devices and control")]
    pub drive: Vec<DriveArg>,

    /// A network of the host that the guest can be in. Repeatable; default: none
    #[arg(long, value_name = "tap|vhost-user,id=ID,…", value_parser = net::netdev,
          help_heading = "Devices and control")]
    pub netdev: Vec<NetdevArg>,

    /// What a console is connected to, or the socket of a daemon that serves a device (vhost-user). Repeatable; default: none
    #[arg(long, value_name = "stdio|file|null|socket,id=ID,…", value_parser = chardev::chardev,
          help_heading = "Devices and control")]
    pub chardev: Vec<ChardevArg>,

    /// A device. Repeatable; default: none
    #[arg(long, value_name = "DRIVER,…", value_parser = device::device, help_heading = "Devices and control")]
    pub device: Vec<DeviceArg>,

    /// Serial port and monitor share the terminal, as with -serial mon:stdio, where neither is given another place; default:
    /// the terminal is the serial port's alone
    #[arg(long, help_heading = "Devices and control")]
    pub nographic: bool,

    /// Where the first serial port goes: stdio, mon:stdio (shared with the monitor: Ctrl-A H says how), none, or file:PATH
    /// (,, in PATH is a comma); default: stdio, or none where the monitor or a
    /// console has stdio
    #[arg(long, value_name = "stdio|mon:stdio|none|file:PATH", value_parser = channel::serial, help_heading = "Devices and control")]
    pub serial: Vec<SerialArg>,

    /// Monitor for people: stdio, none, or a socket; default: none
    #[arg(long, value_name = "stdio|none|unix:PATH,…", value_parser = channel::monitor,
          help_heading = "Devices and control")]
    pub monitor: Vec<MonitorArg>,

    /// Monitor for programs, in QMP, on a socket. Repeatable; default: none
    #[arg(long, value_name = "unix:PATH,…", value_parser = channel::qmp, help_heading = "Devices and control")]
    pub qmp: Vec<QmpArg>,

    /// Go on in the background once the guest is about to run: what goes wrong before that is said, and told by the exit
    /// status; needs a -serial or -monitor that is not the terminal's; default: in the foreground
    #[arg(long, help_heading = "Devices and control")]
    pub daemonize: bool,

    /// Keep the process id in this file while Ballast runs, and start no second one with it; default: none
    #[arg(long, value_name = "FILE", help_heading = "Devices and control")]
    pub pidfile: Option<PathBuf>,

    /// Say what was asked of each backend and what took effect; default: only warnings
    #[arg(long, alias = "v", help_heading = "Devices and control")]
    pub verbose: bool,

    /// Options that change nothing.
    #[command(flatten)]
    pub habits: Habits,
}

impl Args {
    /// The memory backends among the objects.
    pub fn backends(&self) -> impl Iterator<Item = &ObjectArg> {
        self.object.iter().filter_map(|object| match object {
            Object::Memory(backend) => Some(backend),
            Object::Rng(_) => None,
        })
    }
}

/// The options as clap knows them: names, values, help.
fn options() -> clap::Command {
    Args::augment_args(clap::Command::new("run").no_binary_name(true))
}

/// Reads a command line, the program's name first.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, Error> {
    let mut words = args.into_iter().skip(1);
    let first = words.next().ok_or(Error::NoCommand)?;
    let first = first.to_string_lossy();
    match &*first {
        "run" => run(words.collect()),
        "doctor" => match words.next() {
            None => Ok(Command::Doctor),
            Some(word) => Err(Error::StrayWord {
                word: word.to_string_lossy().into_owned(),
            }),
        },
        "help" => Ok(Command::Help(match words.next() {
            Some(word) if word == "run" => help::run(),
            _ => help::program(),
        })),
        "-h" | "-help" | "--help" => Ok(Command::Help(help::program())),
        "-V" | "-version" | "--version" => Ok(Command::Version),
        word => Err(Error::UnknownCommand {
            word: word.to_owned(),
        }),
    }
}

fn run(words: Vec<OsString>) -> Result<Command, Error> {
    let options = options();
    match spelling::normalise(&options, words)? {
        spelling::Spelled::Help => Ok(Command::Help(help::run())),
        spelling::Spelled::Version => Ok(Command::Version),
        spelling::Spelled::Options(words) => {
            let matches = options
                .try_get_matches_from(words)
                .map_err(|error| refused(&error))?;
            let args = Args::from_arg_matches(&matches).map_err(|error| refused(&error))?;
            Ok(Command::Run(args))
        }
    }
}

/// What clap found wrong, in our words.
fn refused(error: &clap::Error) -> Error {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => text.clone(),
        Some(ContextValue::Strings(texts)) => texts.join(", "),
        _ => String::new(),
    };
    // clap names an argument as its own help would: "--smp <N>".
    let option = context(ContextKind::InvalidArg);
    let option = option
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .trim_start_matches('-');
    let option = format!("-{option}");
    let value = context(ContextKind::InvalidValue);
    let known = error
        .source()
        .and_then(|source| source.downcast_ref::<ValueError>());
    match (error.kind(), known) {
        (_, Some(source)) => Error::Value {
            option,
            value,
            source: Box::new(source.clone()),
        },
        (ErrorKind::InvalidValue, None) if value.is_empty() => Error::ValueMissing {
            option,
            value: "see 'ballast run --help'".to_owned(),
        },
        (ErrorKind::InvalidValue, None) => {
            let source = ValueError::NotAccepted {
                value: value.clone(),
                accepted: context(ContextKind::ValidValue),
            };
            Error::Value {
                option,
                value,
                source: Box::new(source),
            }
        }
        (ErrorKind::TooManyValues, None) => Error::ValueUnexpected { option },
        _ => Error::Parse(
            error
                .to_string()
                .trim_start_matches("error: ")
                .trim_end()
                .replace('\n', " "),
        ),
    }
}

#[cfg(test)]
mod tests;
