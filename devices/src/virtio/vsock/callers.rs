//! Programs of the host that have connected and not yet said to which port of the guest.
//!
//! They say `CONNECT` and the port on a line of their own, as with other monitors. What they send after it may come along.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use super::connection::PATIENCE;

/// So many at once; the others wait to be accepted.
pub(super) const MOST_CALLERS: usize = 64;
/// Bytes that are read before there is a whole line, and some of what may follow it.
const MOST_READ: usize = 256;
/// The longest line: the word, a space, ten digits, the end.
const LONGEST: usize = "CONNECT 4294967295\r\n".len();

#[derive(Debug)]
struct Caller {
    stream: UnixStream,
    said: Vec<u8>,
    deadline: Instant,
}

/// A program that has said where it wants to go.
#[derive(Debug)]
pub(super) struct Called {
    pub(super) stream: UnixStream,
    pub(super) port: u32,
    /// What it sent after that.
    pub(super) early: Vec<u8>,
}

/// All of them, by a number of their own.
#[derive(Debug, Default)]
pub(super) struct Callers {
    callers: BTreeMap<u32, Caller>,
    next: u32,
}

impl Callers {
    pub(super) fn have_room(&self) -> bool {
        self.callers.len() < MOST_CALLERS
    }

    /// The number of the next one. Few are there at once, so that a number is free long before it comes again.
    pub(super) fn number(&mut self) -> u32 {
        self.next = (self.next + 1) % u32::MAX;
        self.next
    }

    /// One more.
    pub(super) fn add(&mut self, number: u32, stream: UnixStream) {
        let caller = Caller {
            stream,
            said: Vec::new(),
            deadline: Instant::now() + PATIENCE,
        };
        self.callers.insert(number, caller);
    }

    /// Reads what a caller says. One that says something else is hung up on.
    pub(super) fn listen(&mut self, number: u32) -> Option<Called> {
        let caller = self.callers.get_mut(&number)?;
        let mut part = [0; MOST_READ];
        let room = MOST_READ - caller.said.len();
        match caller.stream.read(&mut part[..room]) {
            Ok(count @ 1..) => caller.said.extend(&part[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return None;
            }
            Ok(0) | Err(_) => {
                self.callers.remove(&number);
                return None;
            }
        }
        let Some(end) = caller.said.iter().take(LONGEST).position(|byte| *byte == b'\n') else {
            if caller.said.len() >= LONGEST {
                self.callers.remove(&number);
            }
            return None;
        };
        let Caller { stream, mut said, .. } = self.callers.remove(&number)?;
        let early = said.split_off(end + 1);
        let port = port(&said)?;
        Some(Called { stream, port, early })
    }

    /// Hangs up on those that have said nothing for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        self.callers.retain(|_, caller| caller.deadline > now);
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.callers.values().map(|caller| caller.deadline)
    }

    pub(super) fn clear(&mut self) {
        self.callers.clear();
    }
}

/// The port of a line `CONNECT PORT`.
fn port(line: &[u8]) -> Option<u32> {
    let line = str::from_utf8(line).ok()?;
    let (word, port) = line.trim_end().split_once(' ')?;
    let digits = port.bytes().all(|byte| byte.is_ascii_digit());
    (word.eq_ignore_ascii_case("connect") && digits).then(|| port.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_name_a_port() {
        assert_eq!(port(b"CONNECT 52\n"), Some(52));
        assert_eq!(port(b"connect 4294967295\r\n"), Some(u32::MAX));
        for wrong in [
            "CONNECT\n",
            "CONNECT \n",
            "CONNECT +1\n",
            "CONNECT 4294967296\n",
            "GET / HTTP\n",
            "CONNECT  5\n",
        ] {
            assert_eq!(port(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
