//! The sockets of daemons that serve devices.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use devices::virtio::vhost_user::Dial;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

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
}
