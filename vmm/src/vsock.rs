//! The unix sockets behind a guest's: one that programs of the host call at, and one for each port that they serve.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use devices::host_sockets::HostSockets;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use crate::control::socket::{Listener, SocketError};

/// `PATH`, where programs call, and `PATH_PORT`, where they serve.
#[derive(Debug)]
pub struct PortSockets {
    listener: Listener,
}

impl PortSockets {
    /// Listens at `path`; the file goes with this.
    ///
    /// # Errors
    /// When somebody else does, or the kernel refuses.
    pub fn bind(path: &Path) -> Result<PortSockets, SocketError> {
        Ok(PortSockets {
            listener: Listener::bind(path)?,
        })
    }

    fn path(&self, port: u32) -> PathBuf {
        let mut path = self.listener.path().as_os_str().to_owned();
        path.push(format!("_{port}"));
        path.into()
    }
}

impl HostSockets for PortSockets {
    fn accept(&mut self) -> io::Result<UnixStream> {
        self.listener.accept()
    }

    fn connect(&mut self, port: u32) -> io::Result<UnixStream> {
        let address = SocketAddrUnix::new(self.path(port).as_os_str().as_bytes())?;
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &address)?;
        Ok(socket.into())
    }

    fn waiting(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn ports_are_files_beside_the_socket() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("v.sock");
        let mut sockets = PortSockets::bind(&path).unwrap();
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
        drop(sockets);
        assert!(!path.exists());
    }
}
