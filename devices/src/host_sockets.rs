//! Programs of the host that guests talk to without a network.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

/// How a guest's programs and the host's find each other. One thread has it, and none of its calls waits.
pub trait HostSockets: Send + fmt::Debug {
    /// The next program that wants to talk to one of the guest's, non-blocking.
    ///
    /// # Errors
    /// `WouldBlock` when there is none now; else what the host says.
    fn accept(&mut self) -> io::Result<UnixStream>;

    /// Reaches the program that serves the guest at `port`, non-blocking.
    ///
    /// # Errors
    /// What the host says, `WouldBlock` where the program has too many to serve.
    fn connect(&mut self, port: u32) -> io::Result<UnixStream>;

    /// Becomes readable when there is something to [`HostSockets::accept`]; constant.
    fn waiting(&self) -> BorrowedFd<'_>;
}
