//! A stream of bytes that is read as it comes, and waited on with deadlines.

use std::io::{Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, Result};

/// How much of what was seen an error repeats, in bytes.
const TAIL: usize = 4000;

/// Everything that came from a stream so far.
#[derive(Clone, Debug, Default)]
pub struct Transcript {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    ended: bool,
}

impl Transcript {
    /// Reads a stream to its end on a thread of its own.
    pub fn of(mut stream: impl Read + Send + 'static) -> Transcript {
        let transcript = Transcript::default();
        let shared = Arc::clone(&transcript.shared);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = stream.read(&mut buffer) {
                if count == 0 {
                    break;
                }
                shared.lock().bytes.extend_from_slice(&buffer[..count]);
                shared.news.notify_all();
            }
            shared.lock().ended = true;
            shared.news.notify_all();
        });
        transcript
    }

    /// How many bytes came so far: a place to wait from.
    pub fn len(&self) -> usize {
        self.shared.lock().bytes.len()
    }

    /// Whether nothing came so far.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything so far.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.lock().bytes).into_owned()
    }

    /// The last of it, as much as an error repeats.
    pub fn tail(&self) -> String {
        tail(&self.shared.lock().bytes)
    }

    /// Waits until what came after `from` satisfies `found`, which returns a value and how many bytes it used; returns
    /// the value and the place after it.
    pub fn wait<T>(
        &self,
        what: &str,
        from: usize,
        patience: Duration,
        mut found: impl FnMut(&[u8]) -> Option<(T, usize)>,
    ) -> Result<(T, usize)> {
        let deadline = Instant::now() + patience;
        let mut state = self.shared.lock();
        loop {
            if let Some((value, used)) = found(state.bytes.get(from..).unwrap_or_default()) {
                return Ok((value, from + used));
            }
            let (what, seen) = (what.to_owned(), || tail(&state.bytes));
            if state.ended {
                return Err(Error::Ended { what, seen: seen() });
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Err(Error::TimedOut {
                    what,
                    patience,
                    seen: seen(),
                });
            };
            let waited = self.shared.news.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until a text comes after `from`; returns the place after it.
    pub fn wait_for(&self, text: &str, from: usize, patience: Duration) -> Result<usize> {
        let find = |bytes: &[u8]| {
            let start = bytes
                .windows(text.len())
                .position(|window| window == text.as_bytes())?;
            Some(((), start + text.len()))
        };
        self.wait(&format!("{text:?}"), from, patience, find)
            .map(|((), place)| place)
    }

    /// Waits until the stream ends.
    pub fn wait_end(&self, patience: Duration) -> Result<()> {
        match self.wait::<()>("the end", 0, patience, |_| None) {
            Err(Error::Ended { .. }) | Ok(_) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream in both directions: a guest's serial port.
#[derive(Debug)]
pub struct Console<W> {
    input: W,
    /// What came from the guest.
    pub transcript: Transcript,
    place: usize,
}

impl<W: Write> Console<W> {
    /// A console over the two directions.
    pub fn new(input: W, output: impl Read + Send + 'static) -> Console<W> {
        Console {
            input,
            transcript: Transcript::of(output),
            place: 0,
        }
    }

    /// Types a line.
    pub fn send(&mut self, line: &str) -> Result<()> {
        let written = writeln!(self.input, "{line}").and_then(|()| self.input.flush());
        written.map_err(|source| Error::Run {
            program: "the console".into(),
            source,
        })
    }

    /// Waits for a text that was not waited for before.
    pub fn wait_for(&mut self, text: &str, patience: Duration) -> Result<()> {
        self.place = self.transcript.wait_for(text, self.place, patience)?;
        Ok(())
    }

    /// Waits for a whole line that `parse` accepts, after what was waited for before; lines that it does not accept are
    /// passed over.
    pub fn wait_line<T>(
        &mut self,
        what: &str,
        patience: Duration,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        // Lines come again with each byte after them, and may be many.
        let mut used = 0;
        let find = |bytes: &[u8]| {
            for line in bytes[used..]
                .split_inclusive(|byte| *byte == b'\n')
                .filter(|line| line.ends_with(b"\n"))
            {
                used += line.len();
                if let Some(value) = parse(String::from_utf8_lossy(line).trim_end()) {
                    return Some((value, used));
                }
            }
            None
        };
        let (value, place) = self.transcript.wait(what, self.place, patience, find)?;
        self.place = place;
        Ok(value)
    }
}

fn tail(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TAIL)..]).into_owned()
}

#[cfg(test)]
mod tests;
