//! The main thread: one loop over control sockets, signals, the terminal, and what other threads tell.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use devices::virtio::balloon::BalloonNews;
use event_manager::{EventManager, EventOps, Events, MutEventSubscriber, SubscriberOps};
use rustix::io::Errno;
use vmm_sys_util::epoll::EventSet;

use crate::config::{Config, MonitorSpec};
use crate::control::Control;
use crate::host::bus_error::BusErrors;
use crate::host::daemon::Daemon;
use crate::host::footprint;
use crate::host::signals::EndingSignals;
use crate::host::terminal::RawTerminal;
use crate::keys::{self, Keys, Typed};
use crate::machine::{Machine, Outcome};
use crate::news::{News, NewsReceiver};

/// Why the loop could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The terminal could not be prepared.
    #[error("cannot prepare the terminal")]
    Terminal(#[source] io::Error),
    /// With `-daemonize`.
    #[error("cannot leave the terminal")]
    Daemon(#[source] io::Error),
    /// The event manager failed.
    #[error("the event loop failed: {0}")]
    Loop(event_manager::Error),
}

/// How much of stdin is read at once.
const INPUT_CHUNK: usize = 256;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
enum Source {
    Control,
    News,
    Signals,
    BusError,
    TypingRoom,
    Stdin,
}

/// Who gets what is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
enum StdinUser {
    Nobody,
    Guest,
    Monitor,
    Both(Keys),
}

/// Everything that the main thread owns.
#[derive(Debug)]
pub struct MainLoop {
    machine: Machine,
    control: Control,
    news: NewsReceiver,
    signals: EndingSignals,
    bus_errors: BusErrors,
    stdin: StdinUser,
    /// Typed, but not yet taken by the guest's device.
    typed: Vec<u8>,
    // Restores the terminal when the loop ends.
    terminal: Option<RawTerminal>,
    /// Waits for the end of the start.
    daemon: Option<Daemon>,
}

impl Error {
    /// Whether the guest could not run yet.
    pub fn is_of_start(&self) -> bool {
        matches!(self, Error::Terminal(_) | Error::Daemon(_))
    }
}

impl MainLoop {
    /// A loop around `machine`.
    pub fn new(
        config: &Config,
        machine: Machine,
        control: Control,
        news: NewsReceiver,
        signals: EndingSignals,
        bus_errors: BusErrors,
        daemon: Option<Daemon>,
    ) -> MainLoop {
        let stdin = match &config.monitor {
            MonitorSpec::Shared => StdinUser::Both(Keys::default()),
            _ if config.guest_has_stdio() => StdinUser::Guest,
            MonitorSpec::Stdio => StdinUser::Monitor,
            MonitorSpec::None | MonitorSpec::Unix(_) => StdinUser::Nobody,
        };
        MainLoop {
            machine,
            control,
            news,
            signals,
            bus_errors,
            stdin,
            typed: Vec::new(),
            terminal: None,
            daemon,
        }
    }

    /// The start is over: from here on the terminal is the guest's, or the monitor's, or nobody's.
    fn begin(&mut self) -> Result<(), Error> {
        self.machine.started();
        self.terminal = match self.stdin {
            StdinUser::Guest => RawTerminal::new(true).map_err(Error::Terminal)?,
            StdinUser::Both(_) => RawTerminal::new(false).map_err(Error::Terminal)?,
            StdinUser::Monitor | StdinUser::Nobody => None,
        };
        self.control.greet();
        self.daemon
            .take()
            .map_or(Ok(()), Daemon::leave)
            .map_err(Error::Daemon)?;
        footprint::trim();
        Ok(())
    }

    /// Runs until the machine has ended.
    pub fn run(self) -> Result<Outcome, Error> {
        let mut manager = EventManager::new().map_err(Error::Loop)?;
        let id = manager.add_subscriber(self);
        loop {
            let this = manager.subscriber_mut(id).map_err(Error::Loop)?;
            if let Some(outcome) = this.after_events() {
                return Ok(outcome);
            }
            if this.machine.has_arrived() {
                this.begin()?;
                if this.stdin != StdinUser::Nobody {
                    watch_stdin(&mut manager.event_ops(id).map_err(Error::Loop)?);
                }
                continue;
            }
            let timeout = this.machine.watch_interval().map_or(-1, |interval| {
                i32::try_from(interval.as_millis()).unwrap_or(i32::MAX)
            });
            match manager.run_with_timeout(timeout) {
                Ok(_) => {}
                Err(event_manager::Error::Epoll(error)) if error.errno() == libc::EINTR => {}
                Err(error) => return Err(Error::Loop(error)),
            }
        }
    }

    /// What follows every round: clients hear what happened.
    fn after_events(&mut self) -> Option<Outcome> {
        self.machine.look_for_starvation();
        for event in self.machine.take_events() {
            self.control.emit(event);
        }
        self.machine.outcome()
    }

    fn read_stdin(&mut self, ops: &mut EventOps) {
        let mut chunk = [0; INPUT_CHUNK];
        // Not through std's buffer: what it keeps, epoll does not see.
        match rustix::io::read(io::stdin(), &mut chunk) {
            Ok(0) => {
                tracing::debug!("stdin has ended");
                ignore_stdin(ops);
            }
            Ok(length) => match &mut self.stdin {
                StdinUser::Both(keys) => {
                    let typed = keys.typed(&chunk[..length]);
                    typed.into_iter().for_each(|typed| self.shared_input(&typed));
                }
                StdinUser::Guest => {
                    let taken = self.machine.typing().input(&chunk[..length]);
                    if taken < length {
                        self.typed.extend_from_slice(&chunk[taken..length]);
                        ignore_stdin(ops);
                    }
                }
                StdinUser::Monitor => self.control.monitor_stdin(&chunk[..length], &mut self.machine),
                StdinUser::Nobody => {}
            },
            Err(Errno::INTR) => {}
            Err(error) => {
                tracing::warn!("cannot read stdin: {error}");
                ignore_stdin(ops);
            }
        }
    }

    /// What was typed at a terminal that serial port and monitor share. It is listened to always, or nobody could switch; so
    /// what a guest that reads nothing has no room for is lost.
    fn shared_input(&mut self, typed: &Typed) {
        match typed {
            Typed::Serial(bytes) => {
                let taken = self.machine.typing().input(bytes);
                if taken < bytes.len() {
                    tracing::debug!("{} bytes typed are lost", bytes.len() - taken);
                }
            }
            Typed::Monitor(line) => self.control.monitor_stdin(line, &mut self.machine),
            Typed::Echo(text) => self.control.show(text),
            Typed::Focus => self.control.focus(),
            Typed::Help => self.control.show(keys::HELP),
            Typed::Quit => self.machine.quit(),
        }
    }

    /// The guest's device has room again: it gets what is left over, and when all is taken stdin is watched again.
    fn typing_room(&mut self, ops: &mut EventOps) {
        // A bell that cannot be read was not rung.
        let _ = self.machine.typing().room().read();
        if self.typed.is_empty() {
            return;
        }
        let taken = self.machine.typing().input(&self.typed);
        self.typed.drain(..taken);
        if self.typed.is_empty() {
            watch_stdin(ops);
        }
    }
}

impl MutEventSubscriber for MainLoop {
    fn process(&mut self, events: Events, ops: &mut EventOps) {
        match events.data() {
            source if source == Source::Control as u32 => self.control.serve(&mut self.machine),
            source if source == Source::News as u32 => {
                for news in self.news.drain() {
                    let statistics = matches!(news, News::Balloon(BalloonNews::StatsUpdated));
                    let sampled = matches!(news, News::Sampled(_));
                    self.machine.hear(news);
                    if statistics {
                        self.control.statistics_came(&mut self.machine);
                    }
                    if sampled {
                        self.control.sampled(&mut self.machine);
                    }
                }
            }
            source if source == Source::Signals as u32 => {
                while let Some(ending) = self.signals.take() {
                    self.machine.end_by_signal(ending);
                }
            }
            source if source == Source::BusError as u32 => {
                for error in self.bus_errors.take() {
                    self.machine.bus_error(error);
                }
            }
            source if source == Source::TypingRoom as u32 => self.typing_room(ops),
            _ => self.read_stdin(ops),
        }
    }

    fn init(&mut self, ops: &mut EventOps) {
        let sources: [(RawFd, Source); 5] = [
            (self.control.fd().as_raw_fd(), Source::Control),
            (self.news.wake().as_raw_fd(), Source::News),
            (self.signals.as_fd().as_raw_fd(), Source::Signals),
            (self.bus_errors.wake().as_raw_fd(), Source::BusError),
            (self.machine.typing().room().as_raw_fd(), Source::TypingRoom),
        ];
        for (fd, source) in sources {
            watch(ops, fd, source);
        }
    }
}

fn watch(ops: &mut EventOps, fd: RawFd, source: Source) {
    if let Err(error) = ops.add(Events::with_data_raw(fd, source as u32, EventSet::IN)) {
        // epoll refuses regular files and /dev/null (EPERM): nobody types there.
        tracing::debug!("cannot watch {source:?}: {error:?}");
    }
}

fn watch_stdin(ops: &mut EventOps) {
    watch(ops, io::stdin().as_raw_fd(), Source::Stdin);
}

fn ignore_stdin(ops: &mut EventOps) {
    if let Err(error) = ops.remove(Events::empty_raw(io::stdin().as_raw_fd())) {
        tracing::debug!("stdin was not watched: {error:?}");
    }
}
