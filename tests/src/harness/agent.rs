//! Asking the guest's agent.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use super::console::Console;
use super::{Error, Result};
use crate::agent::disk::{Done, Load, Series};
use crate::agent::stream::Stream;
use crate::agent::watch::Gaps;
use crate::agent::{Memory, READY, Reply, Request};

/// How long a guest may take to start: two emulators run one in another, and not alone.
pub const BOOT: Duration = Duration::from_secs(90);
/// How long an ordinary answer may take.
pub const ANSWER: Duration = Duration::from_secs(30);
/// How long writing or reading a lot of memory may take.
pub const PATTERN: Duration = Duration::from_secs(180);

/// An agent that is ready.
#[derive(Debug)]
pub struct Agent<W: Write> {
    /// The console between us.
    pub console: Console<W>,
    next: u32,
}

impl<W: Write> Agent<W> {
    /// Waits until a guest's agent is ready.
    pub fn wait(mut console: Console<W>, patience: Duration) -> Result<Agent<W>> {
        console.wait_for(READY, patience)?;
        Ok(Agent { console, next: 0 })
    }

    /// Runs a command line in the guest and returns its output; an error if its status is not 0.
    pub fn exec(&mut self, line: &str) -> Result<String> {
        self.ask(&Request::Execute(line.to_owned()), ANSWER)
    }

    /// The same for what may take long.
    pub fn exec_patiently(&mut self, line: &str, patience: Duration) -> Result<String> {
        self.ask(&Request::Execute(line.to_owned()), patience)
    }

    /// Runs a command line in the guest and returns its status and output.
    pub fn try_exec(&mut self, line: &str) -> Result<(i32, String)> {
        self.request(&Request::Execute(line.to_owned()), ANSWER)
    }

    /// The guest's own view of its memory.
    pub fn memory(&mut self) -> Result<Memory> {
        let text = self.ask(&Request::Memory, ANSWER)?;
        Memory::parse(&text).ok_or_else(|| Error::Connection(format!("no memory figures in {text:?}")))
    }

    /// Takes memory in the guest under a name and writes the pattern of a seed to it.
    pub fn fill(&mut self, name: &str, seed: u64, mebibytes: usize) -> Result<()> {
        self.ask(
            &Request::Fill {
                name: name.to_owned(),
                seed,
                mebibytes,
            },
            PATTERN,
        )
        .map(drop)
    }

    /// Compares the memory under a name with its pattern.
    pub fn verify(&mut self, name: &str) -> Result<()> {
        self.ask(&Request::Verify(name.to_owned()), PATTERN).map(drop)
    }

    /// Gives the memory under a name back to the guest's kernel.
    pub fn free(&mut self, name: &str) -> Result<()> {
        self.ask(&Request::Free(name.to_owned()), PATTERN).map(drop)
    }

    /// Sends off [`Request::Ring`]; [`Agent::rung`] waits for it.
    pub fn ring(&mut self, path: &str, offset: u64, time: Duration) -> Result<u32> {
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.send(&Request::Ring {
            path: path.to_owned(),
            offset,
            milliseconds,
        })
    }

    /// How often the guest rang, once it is through.
    pub fn rung(&mut self, id: u32) -> Result<u64> {
        let (status, text) = self.answer(id, "ring", ANSWER)?;
        text.trim().parse().map_err(|_| Error::Agent {
            request: "ring".to_owned(),
            status,
            output: text,
        })
    }

    /// Has the guest write blocks to a disk; [`Agent::disk_written`] waits for the end.
    pub fn write_disk(&mut self, path: &str, series: Series) -> Result<u32> {
        let path = path.to_owned();
        self.send(&Request::WriteDisk { path, series })
    }

    /// How many blocks are safe after the next flush.
    pub fn disk_flushed(&mut self, id: u32) -> Result<u64> {
        let reply = self.console.wait_line("flush of a disk", PATTERN, |line| {
            let (answered, reply) = Reply::parse(line)?;
            (answered == id).then_some(reply)
        })?;
        let count = match &reply {
            Reply::Line(text) => text.strip_prefix("flushed ").and_then(|count| count.parse().ok()),
            Reply::End(_) => None,
        };
        count.ok_or_else(|| Error::Connection(format!("no flush but {reply:?}")))
    }

    /// Waits until all blocks are written.
    pub fn disk_written(&mut self, id: u32) -> Result<()> {
        let (status, output) = self.answer(id, "disk-write", PATTERN)?;
        match status {
            0 => Ok(()),
            status => Err(Error::Agent {
                request: "disk-write".to_owned(),
                status,
                output,
            }),
        }
    }

    /// Has the guest compare a disk with what was written.
    pub fn verify_disk(&mut self, path: &str, series: Series) -> Result<()> {
        let path = path.to_owned();
        self.ask(&Request::VerifyDisk { path, series }, PATTERN).map(drop)
    }

    /// Has the guest read or write a disk at full speed.
    pub fn load_disk(&mut self, path: &str, load: Load) -> Result<Done> {
        let path = path.to_owned();
        let text = self.ask(&Request::LoadDisk { path, load }, PATTERN)?;
        Done::parse(&text).ok_or_else(|| Error::Connection(format!("no figures in {text:?}")))
    }

    /// Has the guest talk with a server at full speed.
    pub fn stream(&mut self, address: SocketAddr, stream: Stream) -> Result<Done> {
        let text = self.ask(&Request::Stream { address, stream }, PATTERN)?;
        Done::parse(&text).ok_or_else(|| Error::Connection(format!("no figures in {text:?}")))
    }

    /// Has the guest take memory, write to all of it and give it back.
    pub fn touch(&mut self, mebibytes: usize) -> Result<()> {
        self.ask(&Request::Touch(mebibytes), PATTERN).map(drop)
    }

    /// Has a thread of the guest look at the clock without a pause from now on.
    pub fn watch(&mut self) -> Result<()> {
        self.ask(&Request::Watch, ANSWER).map(drop)
    }

    /// Ends that; the times at which the thread did not run.
    pub fn gaps(&mut self) -> Result<Gaps> {
        let text = self.ask(&Request::Gaps, ANSWER)?;
        Gaps::parse(&text).ok_or_else(|| Error::Connection(format!("no gaps in {text:?}")))
    }

    /// Switches the guest off; there is no answer.
    pub fn power_off(&mut self) -> Result<()> {
        self.send(&Request::PowerOff).map(drop)
    }

    /// Resets the guest; there is no answer.
    pub fn reboot(&mut self) -> Result<()> {
        self.send(&Request::Reboot).map(drop)
    }

    fn ask(&mut self, request: &Request, patience: Duration) -> Result<String> {
        match self.request(request, patience)? {
            (0, output) => Ok(output),
            (status, output) => Err(Error::Agent {
                request: request.to_string(),
                status,
                output,
            }),
        }
    }

    fn request(&mut self, request: &Request, patience: Duration) -> Result<(i32, String)> {
        let id = self.send(request)?;
        self.answer(id, &request.to_string(), patience)
    }

    fn answer(&mut self, id: u32, request: &str, patience: Duration) -> Result<(i32, String)> {
        let mut output = String::new();
        let what = format!("answer to `{request}`");
        loop {
            let reply = self.console.wait_line(&what, patience, |line| {
                Reply::parse(line)
                    .filter(|(answered, _)| *answered == id)
                    .map(|(_, reply)| reply)
            })?;
            match reply {
                Reply::Line(line) => output.push_str(&(line + "\n")),
                Reply::End(status) => return Ok((status, output)),
            }
        }
    }

    fn send(&mut self, request: &Request) -> Result<u32> {
        self.next += 1;
        self.console.send(&format!("{} {request}", self.next))?;
        Ok(self.next)
    }
}
