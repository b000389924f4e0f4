//! Programs of the host behind a socket device.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use crate::host_sockets::HostSockets;
use crate::virtio::VirtioDevice;
use crate::virtio::vsock::{Vsock, VsockSpec};

/// A socket device with programs that call and serve, and the most bytes that it gives a chain.
pub(super) fn vsock(choice: u8) -> (Box<dyn VirtioDevice>, u32) {
    let spec = VsockSpec {
        id: "fuzz".into(),
        guest_cid: 3,
    };
    let programs = Programs {
        count: 0,
        calls: choice & 2 != 0,
        others: Vec::new(),
        bell: rustix::event::eventfd(0, rustix::event::EventfdFlags::CLOEXEC).unwrap(),
    };
    // A header, and as much as a packet has.
    let most = 44 + (64 << 10);
    (Box::new(Vsock::new(spec, Box::new(programs)).unwrap()), most)
}

/// Programs that have said something, some of which are gone.
#[derive(Debug)]
struct Programs {
    count: u32,
    calls: bool,
    /// The ends of those that are there; few, since a fuzzer makes many.
    others: Vec<UnixStream>,
    /// Never readable.
    bell: OwnedFd,
}

impl Programs {
    fn program(&mut self, says: &[u8]) -> io::Result<UnixStream> {
        let (ours, mut other) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        other.write_all(says)?;
        if !self.count.is_multiple_of(3) {
            self.others.truncate(15);
            self.others.insert(0, other);
        }
        Ok(ours)
    }
}

impl HostSockets for Programs {
    fn accept(&mut self) -> io::Result<UnixStream> {
        self.count += 1;
        match self.count {
            _ if !self.calls || self.count.is_multiple_of(4) || self.count > 200 => {
                Err(ErrorKind::WouldBlock.into())
            }
            5 => Err(ErrorKind::OutOfMemory.into()),
            6 => self.program(b"HELO\n"),
            _ => self.program(b"CONNECT 5\nearly"),
        }
    }

    fn connect(&mut self, port: u32) -> io::Result<UnixStream> {
        self.count += 1;
        match port % 4 {
            _ if self.count > 200 => Err(ErrorKind::WouldBlock.into()),
            3 => Err(ErrorKind::NotFound.into()),
            _ => self.program(&[b'x'; 3000]),
        }
    }

    fn waiting(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}
