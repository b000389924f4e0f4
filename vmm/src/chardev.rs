//! The sockets of daemons that serve devices.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use devices::virtio::vhost_user::{Dial, Introduced, VhostUserError, VhostUserSpec};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::host::signals;

/// A daemon's socket.
#[derive(Clone, Debug)]
pub struct Socket(pub PathBuf);

impl Dial for Socket {
    /// Where a daemon does not accept, and too many wait already, that is an error too.
    fn dial(&self) -> io::Result<UnixStream> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(&self.0)?)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        Ok(stream)
    }
}

/// How often a daemon is looked for at the start.
const PAUSE: Duration = Duration::from_millis(50);

/// Finds the daemon at `path`. One that is looked for when it has gone may also come late: it is waited for, for `patience`, or
/// until somebody asks for the end of Ballast.
///
/// # Errors
/// When there is none, or it does not serve what is wanted.
pub fn introduce(
    spec: &VhostUserSpec,
    path: &Path,
    patience: Duration,
) -> Result<Introduced, VhostUserError> {
    let start = Instant::now();
    loop {
        match Introduced::new(spec.clone(), Box::new(Socket(path.to_owned()))) {
            Err(VhostUserError::Connect(_))
                if spec.reconnect.is_some() && start.elapsed() < patience && !signals::end_is_asked() =>
            {
                thread::sleep(PAUSE);
            }
            introduced => return introduced,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use devices::virtio::vhost_user::Kind;

    use super::*;
    use crate::host::signals::{Ending, EndingSignals};

    #[test]
    fn a_daemon_that_does_not_accept_holds_nobody_up() {
        let directory = tempfile::tempdir().unwrap();
        let socket = Socket(directory.path().join("s"));
        let nobody = socket.dial().unwrap_err();
        assert_eq!(nobody.kind(), io::ErrorKind::NotFound);
        let _listener = UnixListener::bind(&socket.0).unwrap();
        // The queue of a listener has 4096 places at most (net.core.somaxconn).
        let mut waiting = Vec::new();
        let full = (0..5000).find_map(|_| socket.dial().map(|stream| waiting.push(stream)).err());
        let full = full.expect("the queue of the listener is full at some time");
        assert_ne!(full.kind(), io::ErrorKind::NotFound);
    }

    fn spec(reconnect: Option<Duration>) -> VhostUserSpec {
        VhostUserSpec {
            id: "d".to_owned(),
            kind: Kind::Blk,
            queues: 1,
            reconnect,
        }
    }

    #[test]
    fn a_signal_ends_the_wait_for_a_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let mut taken = EndingSignals::new().unwrap();
        signals::testing::raise(libc::SIGTERM);
        let patience = Duration::from_secs(600);
        let nobody = introduce(&spec(Some(patience)), &path, patience).unwrap_err();
        assert!(matches!(nobody, VhostUserError::Connect(_)), "{nobody}");
        assert_eq!(taken.take(), Some(Ending::PowerDown));
    }

    #[test]
    fn a_daemon_with_reconnect_may_come_late() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        let patience = Duration::from_millis(200);
        for (reconnect, waits) in [(None, false), (Some(Duration::from_secs(1)), true)] {
            let start = Instant::now();
            let nobody = introduce(&spec(reconnect), &path, patience).unwrap_err();
            assert!(matches!(nobody, VhostUserError::Connect(_)), "{nobody}");
            assert_eq!(start.elapsed() >= patience, waits);
        }
        let late = path.clone();
        let daemon = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            // It is there, and goes away again.
            UnixListener::bind(late).unwrap().accept().unwrap();
        });
        let patience = Duration::from_secs(20);
        let gone = introduce(&spec(Some(patience)), &path, patience).unwrap_err();
        assert!(!matches!(gone, VhostUserError::Connect(_)), "{gone}");
        daemon.join().unwrap();
    }
}
