//! A small QMP client that waits with deadlines.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::{Value, json};

use super::{Error, Result};

/// How long the socket may take to appear, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection after `qmp_capabilities`.
#[derive(Debug)]
pub struct Qmp {
    stream: UnixStream,
    reader: BufReader<UnixStream>,
    partial: String,
    /// What the server said first.
    pub greeting: Value,
    events: VecDeque<Value>,
}

impl Qmp {
    /// Connects as soon as the socket is there, and negotiates.
    pub fn connect(path: &Path) -> Result<Qmp> {
        let mut qmp = Qmp::connect_raw(path)?;
        qmp.command("qmp_capabilities", Value::Null)?;
        Ok(qmp)
    }

    /// Connects and reads the greeting, nothing more.
    pub fn connect_raw(path: &Path) -> Result<Qmp> {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(path) {
                Ok(stream) => break stream,
                Err(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(10)),
                Err(error) => return Err(Error::Connection(format!("{}: {error}", path.display()))),
            }
        };
        let reader = BufReader::new(stream.try_clone().map_err(broken)?);
        let mut qmp = Qmp {
            stream,
            reader,
            partial: String::new(),
            greeting: Value::Null,
            events: VecDeque::new(),
        };
        qmp.greeting = qmp.read(deadline, "greeting")?;
        Ok(qmp)
    }

    /// Sends a command and returns what `return` holds. `Value::Null` stands for no arguments.
    pub fn command(&mut self, name: &str, arguments: Value) -> Result<Value> {
        let mut request = json!({ "execute": name });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        let mut answer = self.exchange(&request)?;
        if let Some(error) = answer.get("error") {
            let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
            return Err(Error::Qmp {
                command: name.to_owned(),
                class: text("class"),
                text: text("desc"),
            });
        }
        Ok(answer["return"].take())
    }

    /// Waits until no backend is being filled for a guest that is not to run before.
    pub fn wait_filled(&mut self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let query = json!({ "execute": "x-ballast-query-prealloc" });
        loop {
            // QEMU does not know it, and is ready when it answers.
            let answer = self.exchange(&query)?;
            let backends = answer["return"].as_array().map(Vec::as_slice).unwrap_or_default();
            let first = |backend: &Value| backend["mode"] == "on" && backend["state"] == "running";
            if !backends.iter().any(first) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Error::TimedOut {
                    what: "end of the preallocation".into(),
                    patience: PATIENCE,
                    seen: answer.to_string(),
                });
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends an object and returns the next one that is no event, as it is.
    pub fn exchange(&mut self, request: &Value) -> Result<Value> {
        self.send(format!("{request}\n").as_bytes())?;
        self.answer(&format!("answer to {request}"))
    }

    /// The next object that is no event. `what`: for the message, should none come.
    pub fn answer(&mut self, what: &str) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.read(deadline, what)?;
            if answer.get("event").is_none() {
                return Ok(answer);
            }
            self.events.push_back(answer);
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(broken)
    }

    /// A line of the human monitor.
    pub fn monitor(&mut self, line: &str) -> Result<String> {
        let text = self.command("human-monitor-command", json!({ "command-line": line }))?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits for an event of a name, passing over others; returns the whole event.
    pub fn wait_event(&mut self, name: &str, patience: Duration) -> Result<Value> {
        let deadline = Instant::now() + patience;
        loop {
            let event = match self.events.pop_front() {
                Some(event) => event,
                None => self.read(deadline, &format!("event {name}"))?,
            };
            if event["event"] == name {
                return Ok(event);
            }
        }
    }

    /// Every event that came so far and nobody waited for.
    pub fn take_events(&mut self) -> Vec<Value> {
        self.events.drain(..).collect()
    }

    /// Whether something was said that nobody has read.
    pub fn has_answer(&self) -> Result<bool> {
        if !self.reader.buffer().is_empty() {
            return Ok(true);
        }
        let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&Timespec::default())).map_err(|error| broken(error.into()))?;
        Ok(ready > 0)
    }

    /// Reads one object.
    fn read(&mut self, deadline: Instant, what: &str) -> Result<Value> {
        let left = deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        self.stream.set_read_timeout(Some(left)).map_err(broken)?;
        // What was read before a time-out stays in `partial`.
        match self.reader.read_line(&mut self.partial) {
            Ok(_) if self.partial.ends_with('\n') => {
                let line = std::mem::take(&mut self.partial);
                serde_json::from_str(&line).map_err(|error| Error::Connection(format!("{error}: {line}")))
            }
            Ok(_) => Err(Error::Ended {
                what: what.to_owned(),
                seen: self.partial.clone(),
            }),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                let seen = format!("{:?} {}", self.events, self.partial);
                Err(Error::TimedOut {
                    what: what.to_owned(),
                    patience: left,
                    seen,
                })
            }
            Err(error) => Err(broken(error)),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn broken(error: io::Error) -> Error {
    Error::Connection(error.to_string())
}
