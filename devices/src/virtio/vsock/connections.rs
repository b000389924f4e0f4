//! All connections of a guest: who they are between, which of them have news, and which packets nobody is there for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::ops::Bound::{Excluded, Unbounded};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use crate::fault::{Faults, GuestFault};
use crate::host_sockets::HostSockets;

use super::HOST;
use super::callers::{Called, Callers};
use super::connection::{Connection, Fate, Next};
use super::packet::{Header, Op, STREAM};

/// Most connections at once.
pub(super) const MOST_CONNECTIONS: usize = 1023;
/// Resets that wait for buffers of the guest; its packets wait while there are so many.
pub(super) const MOST_RESETS: usize = 256;
/// Ports of the host's programs that call, which nobody can serve.
const FIRST_PORT: u32 = 1 << 30;
/// VMADDR_PORT_ANY: no port.
const ANY: u32 = u32::MAX;
/// What epoll says of [`HostSockets::waiting`]; a caller has port `ANY` and its number, a connection its ports.
const WAITING: u64 = u64::MAX;
/// Events of one look, and looks of one turn.
const EVENTS: usize = 64;
const LOOKS: usize = 32;
/// What is watched of a stream. Edges only: it is asked until it says no.
const ALL: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);
/// How long to wait where the host had nothing for one more connection.
const PAUSE: Duration = Duration::from_secs(1);

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ports {
    host: u32,
    guest: u32,
}

impl Ports {
    fn token(self) -> u64 {
        u64::from(self.host) << 32 | u64::from(self.guest)
    }

    fn of_token(token: u64) -> Ports {
        let [a, b, c, d, e, f, g, h] = token.to_be_bytes();
        Ports {
            host: u32::from_be_bytes([a, b, c, d]),
            guest: u32::from_be_bytes([e, f, g, h]),
        }
    }
}

pub(super) struct Connections {
    guest: u64,
    host: Box<dyn HostSockets>,
    epoll: OwnedFd,
    callers: Callers,
    /// Somebody may be waiting.
    waiting: bool,
    /// When to look again, although the host had nothing left.
    pause: Option<Instant>,
    by_ports: BTreeMap<Ports, Connection>,
    /// Those that may have something for the guest.
    busy: BTreeSet<Ports>,
    /// The last of them whose turn it was.
    last: Ports,
    resets: VecDeque<Header>,
    next_port: u32,
}

impl Connections {
    pub(super) fn new(guest: u64, host: Box<dyn HostSockets>) -> io::Result<Connections> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let news = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, host.waiting(), EventData::new_u64(WAITING), news)?;
        Ok(Connections {
            guest,
            host,
            epoll,
            callers: Callers::default(),
            waiting: true,
            pause: None,
            by_ports: BTreeMap::new(),
            busy: BTreeSet::new(),
            last: Ports { host: 0, guest: 0 },
            resets: VecDeque::new(),
            next_port: 0,
        })
    }

    /// Becomes readable when a program of the host has news.
    pub(super) fn news(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Closes all.
    pub(super) fn clear(&mut self) {
        self.callers.clear();
        self.by_ports.clear();
        self.busy.clear();
        self.resets.clear();
        (self.waiting, self.pause) = (true, None);
    }

    /// The first moment at which somebody has waited for too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let connections = self.by_ports.values().filter_map(Connection::deadline);
        connections
            .chain(self.callers.deadlines())
            .chain(self.pause)
            .min()
    }

    /// Ends what has waited for too long.
    pub(super) fn expire(&mut self) {
        let now = Instant::now();
        self.callers.expire(now);
        if self.pause.take_if(|pause| *pause <= now).is_some() {
            self.waiting = true;
        }
        let late = |(ports, connection): (&Ports, &mut Connection)| {
            let due = connection.deadline().filter(|due| *due <= now);
            due.map(|_| (*ports, connection.lost()))
        };
        let late: Vec<(Ports, Fate)> = self.by_ports.iter_mut().filter_map(late).collect();
        for (ports, fate) in late {
            self.end(ports, fate);
        }
    }

    #[cfg(test)]
    pub(super) fn resets(&self) -> usize {
        self.resets.len()
    }

    /// Whether the guest's packets can be answered.
    pub(super) fn has_room(&self) -> bool {
        self.resets.len() < MOST_RESETS
    }

    /// Looks what the host's programs have done.
    pub(super) fn look(&mut self) {
        let none = Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        };
        let mut events = [none; EVENTS];
        for _ in 0..LOOKS {
            // Nothing can be wrong with a wait that does not wait.
            let count = epoll::wait(&self.epoll, &mut events, Some(&Timespec::default())).unwrap_or(0);
            for event in &events[..count] {
                let (flags, data) = (event.flags, event.data.u64());
                let ports = Ports::of_token(data);
                match ports.host {
                    _ if data == WAITING => self.waiting = true,
                    ANY => self.listen(ports.guest),
                    _ => {
                        if let Some(connection) = self.by_ports.get_mut(&ports) {
                            let fate = connection.notice(flags);
                            self.end(ports, fate);
                        }
                    }
                }
            }
            if count < EVENTS {
                break;
            }
        }
        self.accept();
    }

    /// Has the connection's stream, or the caller's, watched.
    fn watch(&self, stream: &UnixStream, token: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, stream, EventData::new_u64(token), ALL)?)
    }

    fn accept(&mut self) {
        while self.waiting && self.callers.have_room() {
            match self.host.accept() {
                Ok(stream) => {
                    let number = self.callers.number();
                    let token = Ports {
                        host: ANY,
                        guest: number,
                    }
                    .token();
                    match self.watch(&stream, token) {
                        Ok(()) => self.callers.add(number, stream),
                        Err(error) => tracing::warn!("a program that called cannot be watched: {error}"),
                    }
                    self.listen(number);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.waiting = false,
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::Interrupted | ErrorKind::ConnectionAborted
                    ) => {}
                Err(error) => {
                    tracing::warn!("a program that called cannot be heard: {error}");
                    self.waiting = false;
                    self.pause = Some(Instant::now() + PAUSE);
                }
            }
        }
    }

    /// A caller has said something.
    fn listen(&mut self, number: u32) {
        let Some(Called { stream, port, early }) = self.callers.listen(number) else {
            return;
        };
        if self.by_ports.len() >= MOST_CONNECTIONS || port == ANY {
            return;
        }
        let ports = self.free(port);
        let connection = Connection::from_host(stream, early, &format!("OK {}\n", ports.host));
        let token = EventData::new_u64(ports.token());
        if let Err(error) = epoll::modify(&self.epoll, connection.stream(), token, ALL) {
            return tracing::warn!("a program that called cannot be watched: {error}");
        }
        self.by_ports.insert(ports, connection);
        self.busy.insert(ports);
    }

    /// A port of the host's that no connection to this one of the guest's has.
    fn free(&mut self, guest: u32) -> Ports {
        loop {
            self.next_port = (self.next_port + 1) % FIRST_PORT;
            let ports = Ports {
                host: FIRST_PORT + self.next_port,
                guest,
            };
            if !self.by_ports.contains_key(&ports) {
                return ports;
            }
        }
    }

    /// The guest has sent a packet.
    pub(super) fn hear(&mut self, header: &Header, payload: &[u8], faults: &Faults) {
        let fault = || faults.count(GuestFault::VsockPacket { port: header.to_port });
        if header.from_cid != self.guest {
            // An answer would not arrive.
            return fault();
        }
        let ports = Ports {
            host: header.to_port,
            guest: header.from_port,
        };
        let ours = header.to_cid == HOST && header.kind == STREAM && header.to_port != ANY;
        match self.by_ports.get_mut(&ports).filter(|_| ours) {
            // The ports are free when all is delivered.
            Some(connection) if connection.has_left() => self.refuse(header),
            Some(connection) => match connection.hear(header, payload) {
                Ok(fate) => self.end(ports, fate),
                Err(()) => {
                    fault();
                    self.end(ports, Fate::Reset);
                }
            },
            None if ours && header.op == Some(Op::Request) => self.request(ports, header),
            None => self.refuse(header),
        }
    }

    /// A program of the guest wants to talk to one of the host's.
    fn request(&mut self, ports: Ports, header: &Header) {
        let made = match self.by_ports.len() {
            MOST_CONNECTIONS.. => Err(io::Error::other("there are too many connections")),
            _ => self.host.connect(ports.host),
        };
        let made = made.and_then(|stream| {
            self.watch(&stream, ports.token())?;
            Ok(Connection::from_guest(stream, header))
        });
        match made {
            Ok(connection) => {
                self.by_ports.insert(ports, connection);
                self.busy.insert(ports);
            }
            Err(error) => {
                tracing::debug!(port = ports.host, "no connection for the guest: {error}");
                self.reset(ports.guest, header);
            }
        }
    }

    /// Answers a packet that nobody is there for, but for one that says the same.
    fn refuse(&mut self, header: &Header) {
        if header.op != Some(Op::Reset) {
            self.reset(header.from_port, header);
        }
    }

    /// The answer, from where the packet was sent to.
    fn reset(&mut self, guest_port: u32, header: &Header) {
        self.resets.push_back(Header {
            from_cid: header.to_cid,
            from_port: header.to_port,
            kind: header.kind,
            ..self.header(
                Ports {
                    host: 0,
                    guest: guest_port,
                },
                Op::Reset,
            )
        });
    }

    /// Does what becomes of a connection.
    fn end(&mut self, ports: Ports, fate: Fate) {
        if fate == Fate::Goes {
            self.busy.insert(ports);
            return;
        }
        self.busy.remove(&ports);
        if fate != Fate::Leave {
            self.by_ports.remove(&ports);
        }
        if fate != Fate::Over {
            let header = self.header(ports, Op::Reset);
            self.resets.push_back(header);
        }
    }

    fn header(&self, ports: Ports, op: Op) -> Header {
        Header {
            from_cid: HOST,
            to_cid: self.guest,
            from_port: ports.host,
            to_port: ports.guest,
            len: 0,
            kind: STREAM,
            op: Some(op),
            flags: 0,
            room: 0,
            forwarded: 0,
        }
    }

    /// The next one of those that are busy.
    fn whose_turn(&mut self) -> Option<Ports> {
        let after = self.busy.range((Excluded(self.last), Unbounded)).next();
        let next = after.or_else(|| self.busy.first()).copied();
        self.last = next.unwrap_or(self.last);
        next
    }

    /// Takes the next packet for the guest, its bytes into `payload`.
    pub(super) fn next(&mut self, payload: &mut Vec<u8>) -> Option<Header> {
        payload.clear();
        if let Some(reset) = self.resets.pop_front() {
            return Some(reset);
        }
        while let Some(ports) = self.whose_turn() {
            let Some(next) = self
                .by_ports
                .get_mut(&ports)
                .and_then(|found| found.next(payload))
            else {
                self.busy.remove(&ports);
                continue;
            };
            let Next { op, flags, credit } = next;
            return Some(Header {
                // Never more than a packet has.
                len: u32::try_from(payload.len()).unwrap_or(0),
                flags,
                room: credit.0,
                forwarded: credit.1,
                ..self.header(ports, op)
            });
        }
        None
    }
}
