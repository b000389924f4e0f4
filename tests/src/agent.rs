//! The guest's agent, and the language that it speaks on the serial console.
//!
//! A request is one line, `ID WORD ARGUMENTS`; the answer is any number of lines `agent ID: TEXT` and one last line
//! `agent ID= STATUS`, 0 being success. Kernel messages may stand between these lines, so the agent silences them on
//! the console once it is up. A line without an ID is a request all the same, or a command for the shell: for people.

pub mod disk;
pub mod pattern;
pub mod serve;
pub mod sockets;
pub mod stream;
pub mod watch;

use std::net::SocketAddr;
use std::{fmt, fs};

/// What the agent prints first of all: user space has begun. Nothing else on a console begins with its first byte.
pub const MARK: &str = "@ user space";
/// What the agent prints when it is ready for requests.
pub const READY: &str = "agent ready";

/// What the agent can be asked to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Run a command line with the shell; its output, both kinds, is the answer.
    Execute(String),
    /// Tell total and available memory, as [`Memory`] is written.
    Memory,
    /// Take memory under a name and write the pattern of a seed to it.
    Fill {
        /// The name.
        name: String,
        /// The pattern's seed.
        seed: u64,
        /// How much, in MiB.
        mebibytes: usize,
    },
    /// Compare the memory under a name with its pattern.
    Verify(String),
    /// Give the memory under a name back.
    Free(String),
    /// Write two zeroes to a place in a file, as to a doorbell behind it, as often as that goes in so many
    /// milliseconds; the answer is how often that was.
    Ring {
        /// The file.
        path: String,
        /// The place in it, in bytes.
        offset: u64,
        /// For how long.
        milliseconds: u64,
    },
    /// Take so many MiB, write to each page, and give them back.
    Touch(usize),
    /// Write blocks to random places of a disk, with a line after each flush.
    WriteDisk {
        /// The disk.
        path: String,
        /// The blocks.
        series: disk::Series,
    },
    /// Read these blocks, and compare.
    VerifyDisk {
        /// The disk.
        path: String,
        /// The blocks.
        series: disk::Series,
    },
    /// Read or write a disk at full speed; the answer is a [`disk::Done`].
    LoadDisk {
        /// The disk.
        path: String,
        /// How.
        load: disk::Load,
    },
    /// Talk with a server at full speed; the answer is a [`disk::Done`].
    Stream {
        /// The server.
        address: SocketAddr,
        /// How.
        stream: stream::Stream,
    },
    /// Look at the clock without a pause from now on.
    Watch,
    /// Stop that and tell the gaps, as [`watch::Gaps`] is written.
    Gaps,
    /// Switch the machine off.
    PowerOff,
    /// Reset the machine.
    Reboot,
}

impl fmt::Display for Request {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Request::Execute(line) => write!(out, "exec {line}"),
            Request::Memory => out.write_str("memory"),
            Request::Fill {
                name,
                seed,
                mebibytes,
            } => write!(out, "fill {name} {seed} {mebibytes}"),
            Request::Verify(name) => write!(out, "verify {name}"),
            Request::Free(name) => write!(out, "free {name}"),
            Request::Ring {
                path,
                offset,
                milliseconds,
            } => write!(out, "ring {path} {offset} {milliseconds}"),
            Request::Touch(mebibytes) => write!(out, "touch {mebibytes}"),
            Request::WriteDisk { path, series } => write!(out, "disk-write {path} {series}"),
            Request::VerifyDisk { path, series } => write!(out, "disk-verify {path} {series}"),
            Request::LoadDisk { path, load } => write!(out, "disk-load {path} {load}"),
            Request::Stream { address, stream } => write!(out, "stream {address} {stream}"),
            Request::Watch => out.write_str("watch"),
            Request::Gaps => out.write_str("gaps"),
            Request::PowerOff => out.write_str("poweroff"),
            Request::Reboot => out.write_str("reboot"),
        }
    }
}

impl Request {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Request> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let arguments: Vec<&str> = rest.split_whitespace().collect();
        Some(match (word, arguments.as_slice()) {
            ("exec", _) => Request::Execute(rest.to_owned()),
            ("memory", []) => Request::Memory,
            ("fill", [name, seed, mebibytes]) => Request::Fill {
                name: (*name).to_owned(),
                seed: seed.parse().ok()?,
                mebibytes: mebibytes.parse().ok()?,
            },
            ("verify", [name]) => Request::Verify((*name).to_owned()),
            ("free", [name]) => Request::Free((*name).to_owned()),
            ("ring", [path, offset, milliseconds]) => Request::Ring {
                path: (*path).to_owned(),
                offset: offset.parse().ok()?,
                milliseconds: milliseconds.parse().ok()?,
            },
            ("touch", [mebibytes]) => Request::Touch(mebibytes.parse().ok()?),
            ("disk-write", [path, series @ ..]) => Request::WriteDisk {
                path: (*path).to_owned(),
                series: disk::Series::parse(series)?,
            },
            ("disk-verify", [path, series @ ..]) => Request::VerifyDisk {
                path: (*path).to_owned(),
                series: disk::Series::parse(series)?,
            },
            ("disk-load", [path, load @ ..]) => Request::LoadDisk {
                path: (*path).to_owned(),
                load: disk::Load::parse(load)?,
            },
            ("stream", [address, stream @ ..]) => Request::Stream {
                address: address.parse().ok()?,
                stream: stream::Stream::parse(stream)?,
            },
            ("watch", []) => Request::Watch,
            ("gaps", []) => Request::Gaps,
            ("poweroff", []) => Request::PowerOff,
            ("reboot", []) => Request::Reboot,
            _ => return None,
        })
    }
}

/// The guest's own view of its memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// MemTotal: RAM less what the kernel keeps for itself.
    pub total: u64,
    /// MemAvailable: what programs can still get.
    pub available: u64,
}

impl fmt::Display for Memory {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.total, self.available)
    }
}

impl Memory {
    /// Reads what `Display` writes.
    pub fn parse(text: &str) -> Option<Memory> {
        let (total, available) = text.trim().split_once(' ')?;
        Some(Memory {
            total: total.parse().ok()?,
            available: available.parse().ok()?,
        })
    }

    /// That of the machine that this runs on.
    pub fn here() -> Option<Memory> {
        Memory::from_meminfo(&fs::read_to_string("/proc/meminfo").ok()?)
    }

    /// Takes the two figures out of `/proc/meminfo`.
    pub fn from_meminfo(text: &str) -> Option<Memory> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
            kibibytes.checked_mul(1024)
        };
        Some(Memory {
            total: field("MemTotal:")?,
            available: field("MemAvailable:")?,
        })
    }
}

/// One line of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A line of output.
    Line(String),
    /// The end, with a status as programs have it.
    End(i32),
}

impl Reply {
    /// The line that says this in answer to a request.
    pub fn line(&self, id: u32) -> String {
        match self {
            Reply::Line(text) => format!("agent {id}: {text}"),
            Reply::End(status) => format!("agent {id}= {status}"),
        }
    }

    /// Reads what [`Reply::line`] writes, with the request's number.
    pub fn parse(line: &str) -> Option<(u32, Reply)> {
        let rest = line.trim_end_matches(['\r', '\n']).strip_prefix("agent ")?;
        let mark = rest.find([':', '='])?;
        let (id, text) = (rest[..mark].parse().ok()?, &rest[mark + 1..]);
        let text = text.strip_prefix(' ').unwrap_or(text);
        if rest[mark..].starts_with(':') {
            Some((id, Reply::Line(text.to_owned())))
        } else {
            Some((id, Reply::End(text.parse().ok()?)))
        }
    }
}

#[cfg(test)]
mod tests;
