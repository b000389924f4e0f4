//! The unix sockets behind a guest's: one that programs of the host call at, and one for each port that they serve.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use devices::host_sockets::HostSockets;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::control::socket::{self, Listener, SocketError, SocketFile};
use crate::descriptors;

/// `PATH`, where programs call, and `PATH_PORT`, where they serve.
#[derive(Debug)]
pub struct PortSockets {
    listener: UnixListener,
    path: PathBuf,
    /// Descriptors from this number on are for others.
    most: RawFd,
}

impl PortSockets {
    /// Listens at `path`. The file is for the machine: a device whose worker never comes back is not dropped.
    ///
    /// # Errors
    /// When somebody else does, or the kernel refuses.
    pub fn bind(path: &Path) -> Result<(PortSockets, SocketFile), SocketError> {
        // A guest that connects as often as it can shall not keep clients of QMP away.
        let most = descriptors::most().map(|most| most - most / 4);
        let (listener, file) = Listener::bind(path)?.apart();
        let sockets = PortSockets {
            listener,
            path: path.to_owned(),
            most: most.map_or(RawFd::MAX, |most| RawFd::try_from(most).unwrap_or(RawFd::MAX)),
        };
        Ok((sockets, file))
    }

    /// Keeps a stream, unless few descriptors are left: the kernel gives the lowest that is free.
    fn keep(&self, stream: UnixStream) -> io::Result<UnixStream> {
        if stream.as_raw_fd() < self.most {
            return Ok(stream);
        }
        let text = format!(
            "descriptors from {} on are kept for others (ulimit -n)",
            self.most
        );
        Err(io::Error::other(text))
    }

    fn path(&self, port: u32) -> PathBuf {
        let mut path = self.path.clone().into_os_string();
        path.push(format!("_{port}"));
        path.into()
    }
}

impl HostSockets for PortSockets {
    fn accept(&mut self) -> io::Result<UnixStream> {
        self.keep(socket::accept(&self.listener)?)
    }

    fn connect(&mut self, port: u32) -> io::Result<UnixStream> {
        let address = SocketAddrUnix::new(self.path(port).as_os_str().as_bytes())?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &address)?;
        self.keep(socket.into())
    }

    fn waiting(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read};

    use super::*;

    #[test]
    fn ports_are_files_beside_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.sock");
        let (mut sockets, file) = PortSockets::bind(&path).unwrap();
        assert_eq!(sockets.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(sockets.connect(7).unwrap_err().kind(), ErrorKind::NotFound);
        let server = UnixListener::bind(directory.path().join("v.sock_7")).unwrap();
        sockets.connect(7).unwrap();
        server.accept().unwrap();
        // A server that takes nobody on costs the guest its connection, and us no time.
        let mut refused = None;
        let kept: Vec<_> = (0..10_000)
            .map_while(|_| {
                sockets
                    .connect(7)
                    .map_err(|error| refused = Some(error.kind()))
                    .ok()
            })
            .collect();
        assert_eq!(refused, Some(ErrorKind::WouldBlock), "after {}", kept.len());
        let _caller = UnixStream::connect(&path).unwrap();
        sockets.accept().unwrap();
        drop(file);
        assert!(!path.exists(), "a device that is not dropped leaves no file");
    }

    #[test]
    fn the_last_descriptors_are_for_others() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.sock");
        let (mut sockets, _file) = PortSockets::bind(&path).unwrap();
        assert!(sockets.most > 0);
        sockets.most = 3;
        let server = UnixListener::bind(directory.path().join("v.sock_7")).unwrap();
        let refused = sockets.connect(7).unwrap_err().to_string();
        assert!(refused.contains("ulimit -n"), "{refused}");
        // The server's program finds out, and so does one that calls.
        assert_eq!(server.accept().unwrap().0.read(&mut [0]).unwrap(), 0);
        let mut caller = UnixStream::connect(&path).unwrap();
        sockets.accept().unwrap_err();
        assert_eq!(caller.read(&mut [0]).unwrap(), 0);
    }
}
