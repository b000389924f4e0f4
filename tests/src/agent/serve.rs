//! The agent's side of the language.

use std::collections::HashMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::system::{RebootCommand, reboot};

use super::pattern::{Pattern, touch};
use super::watch::Watch;
use super::{Memory, Reply, Request};

/// Memory that the agent leaves to others when it takes some, in bytes: a guest that starves is no test.
const SPARE: u64 = 6 << 20;

/// The number of a request that has none.
const BY_HAND: u32 = 0;

/// An agent at work.
#[derive(Debug)]
pub struct Agent<W: Write> {
    console: W,
    patterns: HashMap<String, Pattern>,
    watch: Option<Watch>,
}

impl<W: Write> Agent<W> {
    /// An agent that answers on a console.
    pub fn new(console: W) -> Agent<W> {
        Agent {
            console,
            patterns: HashMap::new(),
            watch: None,
        }
    }

    /// Answers requests until there are no more.
    pub fn serve(&mut self, requests: impl BufRead) -> io::Result<()> {
        for line in requests.lines() {
            let line = line?;
            let line = line.trim();
            let numbered = line
                .split_once(' ')
                .and_then(|(id, text)| Some((id.parse().ok()?, text)));
            let status = match (numbered, Request::parse(numbered.map_or(line, |(_, text)| text))) {
                (Some((id, _)), Some(request)) => self.answer(id, &request)?,
                (Some((id, text)), None) => self.say(id, &format!("no such request: {text}"), 127)?,
                // Typed by hand: a request without its number, or else a command for the shell.
                (None, Some(request)) => self.answer(BY_HAND, &request)?,
                (None, None) if line.is_empty() => continue,
                (None, None) => self.execute(BY_HAND, line)?,
            };
            let id = numbered.map_or(BY_HAND, |(id, _)| id);
            writeln!(self.console, "{}", Reply::End(status).line(id))?;
            self.console.flush()?;
        }
        Ok(())
    }

    fn answer(&mut self, id: u32, request: &Request) -> io::Result<i32> {
        match request {
            Request::Execute(line) => self.execute(id, line),
            Request::Memory => match Memory::here() {
                Some(memory) => self.say(id, &memory.to_string(), 0),
                None => self.say(id, "no memory figures in /proc/meminfo", 1),
            },
            Request::Fill {
                name,
                seed,
                mebibytes,
            } => self.fill(id, name, *seed, *mebibytes),
            Request::Verify(name) => match self.patterns.get(name).map(Pattern::damaged) {
                Some(0) => Ok(0),
                Some(damaged) => self.say(id, &format!("{damaged} words differ from what was written"), 1),
                None => self.say(id, &format!("no memory is called {name}"), 1),
            },
            Request::Free(name) => match self.patterns.remove(name) {
                Some(_) => Ok(0),
                None => self.say(id, &format!("no memory is called {name}"), 1),
            },
            Request::Ring {
                path,
                offset,
                milliseconds,
            } => match ring(path, *offset, Duration::from_millis(*milliseconds)) {
                Ok(count) => self.say(id, &count.to_string(), 0),
                Err(error) => self.say(id, &format!("{path}: {error}"), 1),
            },
            Request::Touch(mebibytes) if touch(*mebibytes) => Ok(0),
            Request::Touch(_) => self.say(id, "the kernel refused the memory", 1),
            Request::WriteDisk { path, series } => {
                let told = |count| {
                    self.say(id, &format!("flushed {count}"), 0)?;
                    self.console.flush()
                };
                match series.write(path, told) {
                    Ok(()) => Ok(0),
                    Err(error) => self.say(id, &format!("{path}: {error}"), 1),
                }
            }
            Request::VerifyDisk { path, series } => match series.verify(path) {
                Ok(wrong) if wrong.is_empty() => Ok(0),
                Ok(wrong) => self.say(id, &format!("{} blocks differ: {wrong:?}", wrong.len()), 1),
                Err(error) => self.say(id, &format!("{path}: {error}"), 1),
            },
            Request::LoadDisk { path, load } => match load.run(path) {
                Ok(done) => self.say(id, &done.to_string(), 0),
                Err(error) => self.say(id, &format!("{path}: {error}"), 1),
            },
            Request::Stream { address, stream } => match stream.run(*address) {
                Ok(done) => self.say(id, &done.to_string(), 0),
                Err(error) => self.say(id, &format!("{address}: {error}"), 1),
            },
            Request::Watch => {
                self.watch = Some(Watch::start());
                Ok(0)
            }
            Request::Gaps => match self.watch.take().and_then(Watch::stop) {
                Some(gaps) => self.say(id, &gaps.to_string(), 0),
                None => self.say(id, "nobody watches", 1),
            },
            Request::PowerOff => self.leave(id, RebootCommand::PowerOff),
            Request::Reboot => self.leave(id, RebootCommand::Restart),
        }
    }

    fn fill(&mut self, id: u32, name: &str, seed: u64, mebibytes: usize) -> io::Result<i32> {
        let wanted = (mebibytes as u64) << 20;
        let available = Memory::here().map_or(0, |memory| memory.available);
        if wanted.saturating_add(SPARE) > available {
            let text = format!(
                "{mebibytes} MiB are too much: {} MiB are available",
                available >> 20
            );
            return self.say(id, &text, 1);
        }
        match Pattern::write(seed, mebibytes) {
            Some(pattern) => {
                self.patterns.insert(name.to_owned(), pattern);
                Ok(0)
            }
            None => self.say(id, "the kernel refused the memory", 1),
        }
    }

    fn execute(&mut self, id: u32, line: &str) -> io::Result<i32> {
        let (mut output, input) = io::pipe()?;
        let other = input.try_clone()?;
        let mut command = Command::new("/bin/sh");
        command
            .arg("-c")
            .arg(line)
            .stdin(Stdio::null())
            .stdout(input)
            .stderr(other);
        let mut child = command.spawn()?;
        // Our copies of the writing end have to go, or the output never ends.
        drop(command);
        let mut bytes = Vec::new();
        BufReader::new(&mut output).read_to_end(&mut bytes)?;
        for line in String::from_utf8_lossy(&bytes).lines() {
            self.say(id, line, 0)?;
        }
        Ok(child.wait()?.code().unwrap_or(-1))
    }

    fn leave(&mut self, id: u32, how: RebootCommand) -> io::Result<i32> {
        match reboot(how) {
            Ok(()) => Ok(0),
            Err(error) => self.say(id, &error.to_string(), 1),
        }
    }

    fn say(&mut self, id: u32, text: &str, status: i32) -> io::Result<i32> {
        writeln!(self.console, "{}", Reply::Line(text.to_owned()).line(id))?;
        Ok(status)
    }
}

fn ring(path: &str, offset: u64, time: Duration) -> io::Result<u64> {
    let file = fs::OpenOptions::new().write(true).open(path)?;
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < time {
        file.write_all_at(&[0; 2], offset)?;
        count += 1;
    }
    Ok(count)
}
