//! The monitor for people: a line in, text out, in the words of QEMU's monitor.

use std::fmt::Write;

use devices::virtio::balloon::BalloonHandle;
use memory::size::{ByteSize, SizeUnit};

use super::balloon_report;
use super::block_report;
use super::command::{awaits_sample, balloon, failed, sample, set_balloon};
use super::daemon_report;
use super::host_report;
use super::memory_report;
use super::object;
use super::prealloc_report;
use super::put_off::Awaited;
use super::qmp::Failure;
use super::target::Target;
use crate::run_state::RunState;
use crate::sampler::Sample;

/// What stands before the place to type at.
pub const PROMPT: &str = "(ballast) ";
/// What is said first.
pub const BANNER: &str = concat!(
    "Ballast ",
    env!("CARGO_PKG_VERSION"),
    " monitor - type 'help' for more information\n"
);

struct Help {
    /// Its names, the first in full.
    names: &'static [&'static str],
    arguments: &'static str,
    text: &'static str,
}

const fn help(names: &'static [&'static str], arguments: &'static str, text: &'static str) -> Help {
    Help {
        names,
        arguments,
        text,
    }
}

#[rustfmt::skip]
const COMMANDS: &[Help] = &[
    help(&["balloon"], "target", "request VM to change its memory allocation (in MB)"),
    help(&["cont", "c"], "[force]", "resume emulation (force: though data of the guest is lost)"),
    help(&["help", "?"], "[cmd]", "show the help"),
    help(&["info"], "[subcommand]", "show various information about the system state"),
    help(&["object_add"], "[qom-type=]type,id=str[,prop=value][,...]", "create QOM object"),
    help(&["object_del"], "id", "destroy QOM object"),
    help(&["quit", "q"], "", "quit the emulator"),
    help(&["stop", "s"], "", "stop emulation"),
    help(&["system_powerdown"], "", "send system power down event"),
    help(&["system_reset"], "", "reset the system"),
];

#[rustfmt::skip]
const INFOS: &[Help] = &[
    help(&["balloon"], "[-v]", "show balloon information (-v: all there is to know)"),
    help(&["block"], "", "show the disks and their images"),
    help(&["cpus"], "", "show infos for each CPU"),
    help(&["daemons"], "", "show the daemons that serve devices, and whether they are there"),
    help(&["guest-stats"], "", "show what the guest told last about its memory"),
    help(&["host"], "", "show the host's nodes, huge pages, swap and pressure"),
    help(&["ksm"], "", "show what merging equal pages has gained"),
    help(&["kvm"], "", "show KVM information"),
    help(&["memdev"], "", "show memory backends"),
    help(&["name"], "", "show the current VM name"),
    help(&["placement"], "", "show where the guest's memory lies on the host"),
    help(&["prealloc"], "", "show how far memory is preallocated"),
    help(&["status"], "", "show the current VM status"),
    help(&["version"], "", "show the version"),
];

/// Does what `line` says; the answer has `\n` at the end of each line, and is empty when there is nothing to say.
pub fn run(target: &mut dyn Target, line: &str) -> String {
    let mut words = line.split_whitespace();
    let Some(word) = words.next() else {
        return String::new();
    };
    let rest: Vec<&str> = words.collect();
    let Some(command) = find(COMMANDS, word) else {
        return format!("unknown command: '{word}'\n");
    };
    let most = if command.arguments.is_empty() { 0 } else { 1 };
    let known_info = command.names[0] == "info" || command.names[0] == "help";
    if rest.len() > most && !known_info {
        return misuse(
            command,
            &format!(
                "{}: extraneous characters at the end of line",
                command.names.join("|")
            ),
        );
    }
    match command.names[0] {
        "balloon" => set(target, command, rest.first().copied()),
        "cont" => match rest.first() {
            None | Some(&"force") => report(target.cont(!rest.is_empty()).map_err(|error| failed(&error))),
            Some(other) => misuse(command, &format!("invalid parameter '{other}'")),
        },
        "help" => show_help(&rest),
        "info" => info(target, &rest),
        "object_add" => one(command, &rest, |text| object::add_text(target, text)),
        "object_del" => one(command, &rest, |id| object::remove(target, id)),
        "quit" => {
            target.quit();
            String::new()
        }
        "system_reset" => {
            target.system_reset();
            String::new()
        }
        "stop" => report(target.stop().map_err(|error| failed(&error))),
        "system_powerdown" => report(target.system_powerdown().map_err(|error| failed(&error))),
        // A command that is in the table but not here.
        _ => format!("unknown command: '{word}'\n"),
    }
}

/// A command with one argument.
fn one(command: &Help, words: &[&str], act: impl FnOnce(&str) -> Result<(), Failure>) -> String {
    match words.first() {
        Some(word) => report(act(word)),
        None => misuse(command, &format!("{}: missing argument", command.names[0])),
    }
}

fn find<'a>(table: &'a [Help], word: &str) -> Option<&'a Help> {
    table.iter().find(|command| command.names.contains(&word))
}

fn misuse(command: &Help, what: &str) -> String {
    format!("{what}\nTry \"help {}\" for more information\n", command.names[0])
}

fn report(result: Result<(), Failure>) -> String {
    match result {
        Ok(()) => String::new(),
        Err(failure) => format!("Error: {}\n", failure.desc),
    }
}

/// `balloon N`: MiB, or with a suffix.
fn set(target: &dyn Target, command: &Help, size: Option<&str>) -> String {
    let Some(text) = size else {
        return misuse(command, "unexpected end of expression");
    };
    if text.starts_with('-') {
        return misuse(command, "enter a positive value");
    }
    match ByteSize::parse(text, SizeUnit::Mebi) {
        Ok(size) => report(set_balloon(
            target,
            i64::try_from(size.bytes()).unwrap_or(i64::MAX),
        )),
        Err(error) => misuse(command, &error.to_string()),
    }
}

fn show_help(words: &[&str]) -> String {
    let all = |table: &[Help], prefix| table.iter().map(|command| describe(command, prefix)).collect();
    let one = |table: &[Help], word, prefix| find(table, word).map(|command| describe(command, prefix));
    let text = match words {
        [] => Some(all(COMMANDS, "")),
        ["info"] => Some(all(INFOS, "info ")),
        ["info", word] => one(INFOS, word, "info "),
        [word] => one(COMMANDS, word, ""),
        _ => None,
    };
    text.unwrap_or_else(|| format!("unknown command: '{}'\n", words.join(" ")))
}

fn describe(command: &Help, prefix: &str) -> String {
    format!(
        "{prefix}{} {} -- {}\n",
        command.names.join("|"),
        command.arguments,
        command.text
    )
}

fn info(target: &dyn Target, words: &[&str]) -> String {
    match words {
        [] => show_help(&["info"]),
        ["balloon"] => about_balloon(target, balloon_report::short),
        ["balloon", "-v"] => about_balloon(target, |balloon| {
            with_sample(target, |sample| {
                balloon_report::long(balloon, target.ram(), sample)
            })
        }),
        ["block"] => block_report::text(target.disks()),
        ["daemons"] => daemon_report::text(target.daemons()),
        ["cpus"] => {
            let mut text = String::new();
            for vcpu in target.vcpus() {
                // Writing to a String cannot fail.
                let _ = writeln!(text, "  CPU #{}: thread_id={}", vcpu.index, vcpu.thread_id);
            }
            text
        }
        ["guest-stats"] => about_balloon(target, |balloon| {
            // For whoever asks again: nobody waits here.
            balloon.request_stats();
            balloon_report::stats_text(balloon)
        }),
        ["host"] => host_report::text(),
        ["ksm"] => memory_report::ksm_text(target.ram()),
        ["kvm"] => "kvm support: enabled\n".to_owned(),
        ["memdev"] => memory_report::memdev_text(target),
        ["name"] => target.name().map(|name| format!("{name}\n")).unwrap_or_default(),
        ["placement"] => with_sample(target, |sample| memory_report::placement_text(target, sample)),
        ["prealloc"] => prealloc_report::text(target),
        ["status"] => show_status(target.run_state()),
        ["version"] => concat!(env!("CARGO_PKG_VERSION"), "\n").to_owned(),
        [word, _, ..] if find(INFOS, word).is_some() => format!(
            "{word}: extraneous characters at the end of line\nTry \"help info {word}\" for more information\n"
        ),
        _ => format!("unknown command: 'info {}'\n", words.join(" ")),
    }
}

fn about_balloon(target: &dyn Target, text: impl Fn(&BalloonHandle) -> String) -> String {
    balloon(target).map_or_else(|failure| report(Err(failure)), text)
}

/// What tells from a sample what the host holds.
fn with_sample(target: &dyn Target, text: impl Fn(&Sample) -> String) -> String {
    sample(target).map_or_else(|failure| report(Err(failure)), |sample| text(&sample))
}

/// What it is better to wait for before `line` is done.
pub(super) fn awaits(target: &mut dyn Target, line: &str) -> Option<Awaited> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        ["info", "placement"] | ["info", "balloon", "-v"] => awaits_sample(target),
        _ => None,
    }
}

fn show_status(state: RunState) -> String {
    match state {
        RunState::Running => "VM status: running\n".to_owned(),
        RunState::Paused => "VM status: paused\n".to_owned(),
        RunState::Prelaunch
        | RunState::GuestPanicked
        | RunState::MemoryStarved
        | RunState::InternalError
        | RunState::Shutdown => {
            format!("VM status: paused ({state})\n")
        }
    }
}

#[cfg(test)]
mod tests;
