//! One connection: bytes in, answers and events out, never waiting for the other side.

use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use rustix::event::epoll::EventFlags;

use super::dialogue::Dialogue;
use super::put_off::Wait;
use super::session::Session;
use super::target::Target;
use super::{monitor, qmp};

/// How much is read at once.
const CHUNK: usize = 4096;
/// With more output than this unread, no more requests are taken from the client.
const ENOUGH_OUTPUT: usize = 64 * 1024;
/// With more than this unread, because events pile up, the client is dropped.
const TOO_MUCH_OUTPUT: usize = 1024 * 1024;

/// What a socket speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Qmp,
    Monitor,
}

#[derive(Debug)]
enum Speaker {
    Qmp(Session),
    Monitor(Dialogue),
}

/// What is to be done with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Wait for these.
    Wait(EventFlags),
    /// It is through.
    Close,
}

#[derive(Debug)]
pub(super) struct Client {
    stream: UnixStream,
    speaker: Speaker,
    /// Read, not yet looked at.
    input: Vec<u8>,
    /// Said, not yet taken by the kernel.
    output: Vec<u8>,
    /// Nothing more will be read: the other side is through, or has said something that ends the talk.
    deaf: bool,
    /// Nothing more can be written, or too much is waiting.
    broken: bool,
}

impl Client {
    pub(super) fn new(stream: UnixStream, language: Language) -> Client {
        let (speaker, hello) = match language {
            Language::Qmp => (Speaker::Qmp(Session::default()), qmp::encode(&qmp::greeting())),
            Language::Monitor => (
                Speaker::Monitor(Dialogue::default()),
                crlf(&format!("{}{}", monitor::BANNER, monitor::PROMPT)),
            ),
        };
        let mut client = Client {
            stream,
            speaker,
            input: Vec::new(),
            output: Vec::new(),
            deaf: false,
            broken: false,
        };
        client.say(&hello);
        client
    }

    /// Moves bytes in both directions as far as that goes without waiting.
    pub(super) fn transfer(&mut self) {
        self.flush();
        if !self.wants_input() {
            return;
        }
        let mut chunk = [0; CHUNK];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.deaf = true,
            Ok(length) => self.input.extend_from_slice(&chunk[..length]),
            Err(error) if is_temporary(&error) => {}
            Err(_) => self.broken = true,
        }
    }

    /// Does the next request, if one is complete and its answer has room; the answer is still to be said.
    pub(super) fn next_answer(&mut self, target: &mut dyn Target) -> Option<Vec<u8>> {
        if self.broken || self.output.len() > ENOUGH_OUTPUT {
            return None;
        }
        let input = mem::take(&mut self.input);
        let mut rest = &input[..];
        let answer = match &mut self.speaker {
            Speaker::Qmp(session) => session.next_answer(&mut rest, target),
            Speaker::Monitor(dialogue) => dialogue.next_answer(&mut rest, target).map(|text| crlf(&text)),
        };
        self.input = rest.to_vec();
        if matches!(&self.speaker, Speaker::Qmp(session) if session.is_over()) {
            self.deaf = true;
            self.input.clear();
        }
        answer
    }

    /// What a request of its that was put off waits for.
    pub(super) fn wait(&self) -> Option<Wait> {
        match &self.speaker {
            Speaker::Qmp(session) => session.wait(),
            Speaker::Monitor(dialogue) => dialogue.wait(),
        }
    }

    /// Does the request that was put off; the answer is still to be said.
    pub(super) fn late_answer(&mut self, target: &mut dyn Target) -> Option<Vec<u8>> {
        match &mut self.speaker {
            Speaker::Qmp(session) => session.late_answer(target),
            Speaker::Monitor(dialogue) => dialogue.late_answer(target).map(|text| crlf(&text)),
        }
    }

    /// The other side has closed the connection altogether.
    pub(super) fn hung_up(&mut self) {
        // Epoll tells that without being asked, and again and again: no answer can be waited for.
        self.broken |= self.wait().is_some();
    }

    /// Queues `bytes` and sends what the kernel takes.
    pub(super) fn say(&mut self, bytes: &[u8]) {
        self.output.extend_from_slice(bytes);
        self.flush();
        if self.output.len() > TOO_MUCH_OUTPUT {
            tracing::warn!("dropped a control client that does not read what it is sent");
            self.broken = true;
        }
    }

    /// Whether it speaks QMP and has negotiated, so that events are for it.
    pub(super) fn wants_events(&self) -> bool {
        matches!(&self.speaker, Speaker::Qmp(session) if session.is_negotiated()) && !self.broken
    }

    /// What to wait for next.
    pub(super) fn fate(&self) -> Fate {
        let silent = self.input.is_empty() && self.output.is_empty() && self.wait().is_none();
        if self.broken || (self.deaf && silent) {
            return Fate::Close;
        }
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.wants_input());
        flags.set(EventFlags::OUT, !self.output.is_empty());
        Fate::Wait(flags)
    }

    fn wants_input(&self) -> bool {
        !self.deaf && !self.broken && self.input.is_empty() && self.output.len() <= ENOUGH_OUTPUT
    }

    fn flush(&mut self) {
        while !self.output.is_empty() && !self.broken {
            match self.stream.write(&self.output) {
                Ok(0) => self.broken = true,
                Ok(length) => {
                    self.output.drain(..length);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_temporary(&error) => return,
                Err(_) => self.broken = true,
            }
        }
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Text as terminals behind sockets want it, and as QEMU sends it.
fn crlf(text: &str) -> Vec<u8> {
    text.replace('\n', "\r\n").into_bytes()
}
