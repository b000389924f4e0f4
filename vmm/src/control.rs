//! Users at run time: QMP and monitor sockets, and the monitor on the terminal.
//!
//! All of it lives on the main thread, around an epoll descriptor of its own that the main loop watches. One
//! [`Control::serve`] does a bounded amount of work and never waits: not for a client, not for the guest. A client that
//! does not read is first no longer listened to, then, when events pile up, dropped.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Instant, SystemTime};

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::time::Timespec;

use self::alarm::Alarm;
use self::client::{Client, Fate};
use self::event::Event;
use self::limit::Limits;
use self::listeners::Listeners;
use self::put_off::{Awaited, Wait};
use self::socket::SocketError;
use self::target::Target;
use self::terminal::Terminal;
use crate::config::{Config, MonitorSpec};

mod alarm;
mod balloon_report;
pub mod block_report;
mod client;
pub mod command;
pub mod daemon_report;
mod dialogue;
pub mod event;
pub(crate) mod host_report;
pub mod inventory;
mod limit;
mod lines;
mod listeners;
mod memory_report;
pub mod monitor;
mod object;
mod prealloc_report;
mod put_off;
pub mod qmp;
mod qom;
mod session;
pub mod socket;
pub mod target;
mod terminal;
#[cfg(test)]
mod testing;

/// Clients at a time; more wait in the kernel until one leaves.
const MAX_CLIENTS: usize = 64;
/// Requests of one client in one round; then the others have their turn.
const REQUESTS_A_TURN: usize = 8;
/// Descriptors looked after in one round.
const EVENTS_A_ROUND: usize = 32;

/// Why nobody could be listened to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The kernel refused a descriptor or a thread.
    #[error("cannot prepare {what} for control")]
    Prepare {
        /// What was refused.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
}

fn prepare<E: Into<io::Error>>(what: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::Prepare {
        what,
        source: error.into(),
    }
}

/// What an epoll event is about. Clients have the numbers from `FIRST_CLIENT` on, listeners those from
/// `FIRST_LISTENER` on.
type Token = u64;
const WAKE: Token = 0;
const ALARM: Token = 1;
const FIRST_LISTENER: Token = 2;
const FIRST_CLIENT: Token = 1 << 32;

/// All sockets and clients.
#[derive(Debug)]
pub struct Control {
    epoll: OwnedFd,
    /// Readable while a client has requests that wait for its next turn.
    wake: OwnedFd,
    /// Rings when an event, an answer or a client has waited long enough.
    alarm: Alarm,
    /// Not watched while there are too many clients.
    listeners: Listeners,
    clients: BTreeMap<Token, Client>,
    next_client: Token,
    limits: Limits,
    terminal: Option<Terminal>,
    greeted: bool,
}

impl Control {
    /// Listens on all sockets of `config`.
    pub fn bind(config: &Config) -> Result<Control, Error> {
        let listeners = Listeners::bind(config, FIRST_LISTENER)?;
        let terminal = match config.monitor {
            MonitorSpec::Stdio | MonitorSpec::Shared => {
                Some(Terminal::new().map_err(prepare("the terminal"))?)
            }
            MonitorSpec::None | MonitorSpec::Unix(_) => None,
        };
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(prepare("epoll"))?;
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let mut control = Control {
            wake: eventfd(0, flags).map_err(prepare("an eventfd"))?,
            alarm: Alarm::new().map_err(prepare("a timer"))?,
            epoll,
            listeners,
            clients: BTreeMap::new(),
            next_client: FIRST_CLIENT,
            limits: Limits::default(),
            greeted: config.monitor != MonitorSpec::Stdio,
            terminal,
        };
        control.watch(&control.wake, WAKE).map_err(prepare("epoll"))?;
        control.watch(&control.alarm, ALARM).map_err(prepare("epoll"))?;
        control
            .listeners
            .watch(&control.epoll)
            .map_err(prepare("epoll"))?;
        Ok(control)
    }

    /// The monitor that has a terminal to itself says who it is, and is ready.
    pub fn greet(&mut self) {
        if let Some(terminal) = self.terminal.as_ref().filter(|_| !self.greeted) {
            terminal.greet();
            self.greeted = true;
        }
    }

    /// Readable when [`Control::serve`] has something to do.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Does what there is to do, within bounds; what is left makes [`Control::fd`] readable again.
    pub fn serve(&mut self, target: &mut dyn Target) {
        let mut ready: Vec<epoll::Event> = Vec::with_capacity(EVENTS_A_ROUND);
        match epoll::wait(
            &self.epoll,
            spare_capacity(&mut ready),
            Some(&Timespec::default()),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => tracing::warn!("cannot wait for control clients: {error}"),
        }
        for event in ready {
            match event.data.u64() {
                WAKE => self.woken(target),
                ALARM => self.alarm_rang(target),
                token if token >= FIRST_CLIENT => {
                    // Copied out: the kernel's structure is packed.
                    let flags = event.flags;
                    if flags.contains(EventFlags::HUP)
                        && let Some(client) = self.clients.get_mut(&token)
                    {
                        client.hung_up();
                    }
                    self.turn(token, target);
                }
                token => self.accept(token),
            }
        }
    }

    /// Tells all clients that negotiated; what a guest can cause goes at most once a second, the last always.
    pub fn emit(&mut self, event: Event) {
        if let Some(event) = self.limits.offer(event, Instant::now()) {
            self.broadcast(&event);
        }
        self.set_alarm();
    }

    /// Answers the requests that waited for news of the guest's statistics.
    pub fn statistics_came(&mut self, target: &mut dyn Target) {
        self.answer_late(target, |wait| wait.awaited == Awaited::Statistics);
    }

    /// Answers the requests that waited for a sample of what the host holds. Where an object came while it was read, they wait
    /// for the next one, if their time is not up before.
    pub fn sampled(&mut self, target: &mut dyn Target) {
        let lacks = matches!(target.sample(), Ok(sample) if !sample.knows(target.objects().backends()));
        if lacks && !target.sample_ready() {
            return;
        }
        self.answer_late(target, |wait| wait.awaited == Awaited::Sample);
    }

    /// Shows something on the terminal that the monitor has.
    pub fn show(&self, text: &str) {
        if let Some(terminal) = &self.terminal {
            terminal.say(text.to_owned());
        }
    }

    /// The user turns to the monitor on a terminal that it shares.
    pub fn focus(&self) {
        self.show("\n");
        if let Some(terminal) = &self.terminal {
            terminal.greet();
        }
    }

    /// Takes what was typed at the monitor on the terminal.
    pub fn monitor_stdin(&mut self, bytes: &[u8], target: &mut dyn Target) {
        if let Some(terminal) = &mut self.terminal {
            terminal.typed(bytes, target);
        }
        self.emit_all(target.take_events());
        self.set_alarm();
    }

    fn emit_all(&mut self, events: Vec<Event>) {
        for event in events {
            self.emit(event);
        }
    }

    fn broadcast(&mut self, event: &Event) {
        let line = qmp::encode(&event.to_qmp(SystemTime::now()));
        let tokens: Vec<Token> = self.clients.keys().copied().collect();
        for token in tokens {
            if let Some(client) = self
                .clients
                .get_mut(&token)
                .filter(|client| client.wants_events())
            {
                client.say(&line);
                self.settle(token);
            }
        }
    }

    fn set_alarm(&self) {
        let waits = self.clients.values().filter_map(Client::wait);
        let waits = waits.chain(self.terminal.as_ref().and_then(Terminal::wait));
        let others = self.limits.due().into_iter().chain(self.listeners.due());
        if let Some(due) = waits.map(|wait| wait.until).chain(others).min() {
            self.alarm.set(due);
        }
    }

    fn alarm_rang(&mut self, target: &mut dyn Target) {
        self.alarm.silence();
        let now = Instant::now();
        while let Some(event) = self.limits.expire(now) {
            self.broadcast(&event);
        }
        self.answer_late(target, |wait| wait.until <= now);
        if self.listeners.due().is_some_and(|due| due <= now) {
            self.listen();
        }
        self.set_alarm();
    }

    /// Answers what was put off and is `due`, and goes on with what the client asked meanwhile.
    fn answer_late(&mut self, target: &mut dyn Target, due: impl Fn(Wait) -> bool) {
        if let Some(terminal) = &mut self.terminal
            && terminal.wait().is_some_and(&due)
        {
            terminal.late_answer(target);
            self.emit_all(target.take_events());
            self.set_alarm();
        }
        let waiting = self
            .clients
            .iter()
            .filter(|(_, client)| client.wait().is_some_and(&due));
        let tokens: Vec<Token> = waiting.map(|(token, _)| *token).collect();
        for token in tokens {
            if let Some(client) = self.clients.get_mut(&token)
                && let Some(answer) = client.late_answer(target)
            {
                client.say(&answer);
                self.turn(token, target);
            }
        }
    }

    /// Somebody did not finish in the last round.
    fn woken(&mut self, target: &mut dyn Target) {
        // Empty (EAGAIN) is as good.
        let _ = rustix::io::read(&self.wake, &mut [0; 8]);
        let tokens: Vec<Token> = self.clients.keys().copied().collect();
        for token in tokens {
            self.turn(token, target);
        }
    }

    fn come_back(&self) {
        // Full (EAGAIN) is as good.
        let _ = rustix::io::write(&self.wake, &1_u64.to_ne_bytes());
    }

    fn accept(&mut self, token: Token) {
        let (stream, language) = match self.listeners.accept(token) {
            Ok(Some(client)) => client,
            Ok(None) => return,
            Err(why) => {
                // Out of descriptors, most likely; tried again when a client leaves, or a little later.
                tracing::warn!("cannot accept a client on {why}");
                self.listeners.rest(&self.epoll);
                return self.set_alarm();
            }
        };
        let client = Client::new(stream, language);
        let token = self.next_client;
        if let Err(error) = epoll::add(&self.epoll, &client, EventData::new_u64(token), EventFlags::IN) {
            tracing::warn!("cannot watch a control client: {error}");
            return;
        }
        self.next_client += 1;
        self.clients.insert(token, client);
        self.settle(token);
        if self.clients.len() >= MAX_CLIENTS {
            tracing::warn!("{MAX_CLIENTS} control clients are connected; others wait until one leaves");
            self.listeners.ignore(&self.epoll);
        }
    }

    /// Reads, does some requests, answers.
    fn turn(&mut self, token: Token, target: &mut dyn Target) {
        let Some(client) = self.clients.get_mut(&token) else {
            return;
        };
        client.transfer();
        for _ in 0..REQUESTS_A_TURN {
            let Some(client) = self.clients.get_mut(&token) else {
                return;
            };
            let Some(answer) = client.next_answer(target) else {
                if client.wait().is_some() {
                    self.set_alarm();
                }
                self.settle(token);
                return;
            };
            // As with QEMU, what a command caused is told before its answer.
            self.emit_all(target.take_events());
            if let Some(client) = self.clients.get_mut(&token) {
                client.say(&answer);
            }
        }
        self.settle(token);
        self.come_back();
    }

    /// Waits for what the client needs next, or lets it go.
    fn settle(&mut self, token: Token) {
        let Some(client) = self.clients.get(&token) else {
            return;
        };
        let waiting = match client.fate() {
            Fate::Wait(flags) => epoll::modify(&self.epoll, client, EventData::new_u64(token), flags),
            Fate::Close => Err(Errno::PIPE),
        };
        if waiting.is_err() {
            // Closing its descriptor takes it out of epoll.
            self.clients.remove(&token);
            self.listen();
        }
    }

    /// There is room for clients.
    fn listen(&mut self) {
        if let Err(error) = self.listeners.watch(&self.epoll) {
            tracing::warn!("cannot watch the control sockets: {error}");
            self.set_alarm();
        }
    }

    fn watch(&self, source: &impl AsFd, token: Token) -> Result<(), Errno> {
        epoll::add(&self.epoll, source, EventData::new_u64(token), EventFlags::IN)
    }
}

#[cfg(test)]
mod tests;
