//! All sockets that clients come to.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::client::Language;
use super::socket::{Listener, SocketError};
use crate::config::{Config, MonitorSpec};

/// What accepting says when there is nobody to accept any more.
const GONE: [io::ErrorKind; 3] = [
    io::ErrorKind::WouldBlock,
    io::ErrorKind::Interrupted,
    io::ErrorKind::ConnectionAborted,
];

/// After so long a client is tried again that the host had nothing left for.
const RETRY: Duration = Duration::from_secs(1);

/// The sockets, watched while there is room for clients.
#[derive(Debug)]
pub(super) struct Listeners {
    sockets: Vec<(Listener, Language)>,
    /// The first one's epoll token; the others follow.
    first: u64,
    watched: bool,
    /// When they are to be watched again, whoever leaves until then.
    retry: Option<Instant>,
}

impl Listeners {
    /// Listens on all sockets of `config`.
    pub(super) fn bind(config: &Config, first: u64) -> Result<Listeners, SocketError> {
        let mut sockets = Vec::new();
        for spec in &config.qmp {
            sockets.push((Listener::bind(&spec.path)?, Language::Qmp));
        }
        if let MonitorSpec::Unix(path) = &config.monitor {
            sockets.push((Listener::bind(path)?, Language::Monitor));
        }
        Ok(Listeners {
            sockets,
            first,
            watched: false,
            retry: None,
        })
    }

    /// Has `epoll` tell when clients come. Where it cannot, it is due again a little later.
    pub(super) fn watch(&mut self, epoll: &OwnedFd) -> Result<(), Errno> {
        if self.watched {
            return Ok(());
        }
        let mut sockets = self.sockets.iter().zip(self.first..);
        let added = sockets.try_for_each(|((listener, _), token)| {
            epoll::add(epoll, listener, EventData::new_u64(token), EventFlags::IN)
        });
        match added {
            Ok(()) => (self.watched, self.retry) = (true, None),
            Err(_) => self.rest(epoll),
        }
        added
    }

    /// Lets clients wait in the kernel.
    pub(super) fn ignore(&mut self, epoll: &OwnedFd) {
        self.watched = false;
        for (listener, _) in &self.sockets {
            // One that was not added is as good.
            let _ = epoll::delete(epoll, listener);
        }
    }

    /// The same, but only for a moment.
    pub(super) fn rest(&mut self, epoll: &OwnedFd) {
        self.ignore(epoll);
        self.retry = Some(Instant::now() + RETRY);
    }

    /// When they are to be watched again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.retry
    }

    /// The client that waits at the socket with this token, and its language.
    ///
    /// # Errors
    /// With a text, when the host has nothing left for a client: it stays in the queue, and would wake us for ever.
    pub(super) fn accept(&self, token: u64) -> Result<Option<(UnixStream, Language)>, String> {
        let index = usize::try_from(token - self.first).unwrap_or(usize::MAX);
        let Some((listener, language)) = self.sockets.get(index) else {
            return Ok(None);
        };
        match listener.accept() {
            Ok(stream) => Ok(Some((stream, *language))),
            Err(error) if GONE.contains(&error.kind()) => Ok(None),
            Err(error) => Err(format!("'{}': {error}", listener.path().display())),
        }
    }
}
