//! One connection between a program of the guest and one of the host.
//!
//! What the guest sends goes to the host's program at once, or waits here, bounded by the guest's credit. What the host's program
//! sends stays in its socket until there is a packet to put it into.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::epoll::EventFlags;

use super::credit::Credit;
use super::packet::{Header, MOST, NO_MORE_SENT, NO_MORE_TAKEN, Op};

/// How long a peer may take for an answer without which nothing goes on.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// A backlog that is empty again keeps no more memory than this.
const KEPT: usize = 16 << 10;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The guest shall be asked whether it takes it.
    Asking,
    /// It has been asked.
    Asked,
    /// The guest shall hear that the host has taken it.
    Answering,
    Open,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Fate {
    Goes,
    /// It is over, and the guest knows.
    Over,
    /// It is over, and the guest has to be told.
    Reset,
    /// The same, but the host's program has still to get what the guest had sent.
    Leave,
}

/// What a connection has for the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) op: Op,
    pub(super) flags: u32,
    /// See [`Credit::tell`].
    pub(super) credit: (u32, u32),
}

#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    stage: Stage,
    credit: Credit,
    /// What the host's program has not taken yet.
    backlog: VecDeque<u8>,
    /// How many bytes of it, the first ones, are not the guest's but the answer to a caller.
    own: usize,
    /// What a caller sent before it had an answer.
    early: Vec<u8>,
    /// Whether the stream may have something, and take something; cleared where it says no.
    readable: bool,
    writable: bool,
    /// The host's program sends no more; is gone.
    ended: bool,
    gone: bool,
    /// Flags of shutdowns: what the guest said, and was told.
    heard: u32,
    told: u32,
    /// It is over for the guest, which closed it, and not for the host's program: what was sent is delivered, however slowly.
    left: bool,
    /// The guest wants to hear of its credit; has been asked for ours.
    asked: bool,
    asking: bool,
    /// When it is reset unless something happens.
    deadline: Option<Instant>,
}

impl Connection {
    fn new(stream: UnixStream, stage: Stage) -> Connection {
        Connection {
            stream,
            stage,
            credit: Credit::default(),
            backlog: VecDeque::new(),
            own: 0,
            early: Vec::new(),
            readable: true,
            writable: true,
            ended: false,
            gone: false,
            heard: 0,
            told: 0,
            left: false,
            asked: false,
            asking: false,
            deadline: None,
        }
    }

    /// Wanted by a program of the guest, whose first packet is `header`.
    pub(super) fn from_guest(stream: UnixStream, header: &Header) -> Connection {
        let mut connection = Connection::new(stream, Stage::Answering);
        connection.credit.hear(header);
        connection
    }

    /// Wanted by a program of the host, which has sent `early` already and gets `answer` if the guest takes it.
    pub(super) fn from_host(stream: UnixStream, early: Vec<u8>, answer: &str) -> Connection {
        Connection {
            early,
            own: answer.len(),
            backlog: answer.bytes().collect(),
            deadline: Some(Instant::now() + PATIENCE),
            ..Connection::new(stream, Stage::Asking)
        }
    }

    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the guest has nothing to do with it any more.
    pub(super) fn has_left(&self) -> bool {
        self.left
    }

    /// What becomes of it when there is no hope for it.
    pub(super) fn lost(&mut self) -> Fate {
        if self.stage == Stage::Asking {
            // The guest has not heard of it.
            Fate::Over
        } else if self.leave() {
            Fate::Leave
        } else {
            Fate::Reset
        }
    }

    /// Goes on for the host's program alone, if the guest has closed it and not all is delivered.
    fn leave(&mut self) -> bool {
        self.left = self.guest_is_done() && !self.gone && !self.backlog.is_empty();
        if self.left {
            self.deadline = None;
        }
        self.left
    }

    /// The guest has sent a packet. `Err`: one that no driver sends.
    pub(super) fn hear(&mut self, header: &Header, payload: &[u8]) -> Result<Fate, ()> {
        self.credit.hear(header);
        self.asking &= self.credit.may_send() == 0;
        match (header.op, self.stage) {
            // Linux does not wait for the answer to its shutdown for longer than 8 s.
            (Some(Op::Reset), _) if self.leave() => return Ok(Fate::Goes),
            (Some(Op::Reset), _) => return Ok(Fate::Over),
            (Some(Op::Response), Stage::Asked) => {
                (self.stage, self.deadline) = (Stage::Open, None);
            }
            (Some(Op::Bytes), Stage::Open | Stage::Answering) => {
                if self.heard & NO_MORE_SENT != 0 || !self.credit.receive(payload.len()) {
                    return Err(());
                }
                if self.gone {
                    return Ok(Fate::Reset);
                }
                self.backlog.extend(payload);
            }
            (Some(Op::Shutdown), Stage::Open | Stage::Answering) => self.hear_shutdown(header.flags),
            (Some(Op::CreditUpdate), Stage::Open | Stage::Answering) => {}
            (Some(Op::CreditRequest), Stage::Open | Stage::Answering) => self.asked = true,
            _ => return Err(()),
        }
        Ok(self.flush())
    }

    fn hear_shutdown(&mut self, flags: u32) {
        let before = self.heard;
        self.heard |= flags & (NO_MORE_TAKEN | NO_MORE_SENT);
        if self.heard & !before & NO_MORE_TAKEN != 0 {
            // The program finds out when it sends. It may be gone, which is no news then.
            let _ = self.stream.shutdown(Shutdown::Read);
        }
        if self.guest_is_done() {
            self.deadline = Some(Instant::now() + PATIENCE);
        }
    }

    fn guest_is_done(&self) -> bool {
        self.heard == NO_MORE_TAKEN | NO_MORE_SENT
    }

    /// The stream has news.
    pub(super) fn notice(&mut self, events: EventFlags) -> Fate {
        self.readable |= events.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP);
        self.writable |= events.contains(EventFlags::OUT);
        self.gone |= events.intersects(EventFlags::HUP | EventFlags::ERR);
        self.flush()
    }

    /// Hands on what waits for the host's program.
    fn flush(&mut self) -> Fate {
        if matches!(self.stage, Stage::Asking | Stage::Asked) {
            return if self.gone { self.lost() } else { Fate::Goes };
        }
        if self.gone {
            self.backlog.clear();
        }
        while self.writable && !self.backlog.is_empty() {
            match self.stream.write(self.backlog.as_slices().0) {
                Ok(0) => self.gone = true,
                Ok(count) => {
                    let own = count.min(self.own);
                    self.own -= own;
                    self.credit.forward(count - own);
                    self.backlog.drain(..count.min(self.backlog.len()));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(_) => self.gone = true,
            }
            if self.gone {
                self.backlog.clear();
            }
        }
        if self.backlog.is_empty() {
            self.backlog.shrink_to(KEPT);
            if self.guest_is_done() {
                return if self.left { Fate::Over } else { Fate::Reset };
            }
            if self.heard & NO_MORE_SENT != 0 {
                // Again and again, which changes nothing.
                let _ = self.stream.shutdown(Shutdown::Write);
            }
        }
        Fate::Goes
    }

    /// What the guest should know about the host's end by now.
    fn to_tell(&self) -> u32 {
        let takes_more = self.heard & NO_MORE_TAKEN == 0;
        match (self.gone, self.ended || !takes_more) {
            (true, true) => NO_MORE_TAKEN | NO_MORE_SENT,
            (false, _) if self.ended => NO_MORE_SENT,
            _ => 0,
        }
    }

    /// Takes what is next for the guest; bytes go into `payload`, which is empty.
    pub(super) fn next(&mut self, payload: &mut Vec<u8>) -> Option<Next> {
        let (op, flags) = match self.stage {
            _ if self.left => return None,
            Stage::Asking => {
                self.stage = Stage::Asked;
                (Op::Request, 0)
            }
            Stage::Answering => {
                self.stage = Stage::Open;
                (Op::Response, 0)
            }
            Stage::Asked => return None,
            Stage::Open => self.next_of_open(payload)?,
        };
        self.credit.send(payload.len());
        Some(Next {
            op,
            flags,
            credit: self.credit.tell(),
        })
    }

    fn next_of_open(&mut self, payload: &mut Vec<u8>) -> Option<(Op, u32)> {
        let may_send = self.credit.may_send();
        if self.has_bytes() && may_send > 0 {
            self.read(may_send.min(MOST), payload);
            if !payload.is_empty() {
                return Some((Op::Bytes, 0));
            }
        } else if self.has_bytes() && !self.asking {
            self.asking = true;
            return Some((Op::CreditRequest, 0));
        }
        let flags = self.to_tell();
        if flags != self.told {
            self.told = flags;
            if flags == NO_MORE_TAKEN | NO_MORE_SENT {
                // The guest ends it.
                self.deadline = Some(Instant::now() + PATIENCE);
            }
            return Some((Op::Shutdown, flags));
        }
        let news = self.credit.has_news() || std::mem::take(&mut self.asked);
        news.then_some((Op::CreditUpdate, 0))
    }

    /// Whether there may be something to send to a guest that takes it.
    fn has_bytes(&self) -> bool {
        let any = !self.early.is_empty() || (self.readable && !self.ended);
        any && self.heard & NO_MORE_TAKEN == 0
    }

    fn read(&mut self, most: usize, payload: &mut Vec<u8>) {
        if !self.early.is_empty() {
            payload.extend(self.early.drain(..most.min(self.early.len())));
            return;
        }
        payload.resize(most, 0);
        let result = loop {
            match self.stream.read(payload) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        payload.truncate(*result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => self.ended = true,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
            // As after its end: nothing more comes.
            Err(error) => self.fail(&error),
        }
    }

    fn fail(&mut self, error: &io::Error) {
        tracing::debug!("a program of the host is lost: {error}");
        (self.ended, self.gone) = (true, true);
    }
}
