//! Signals that end Ballast, as a file descriptor.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd};

/// The signals that ask Ballast to end.
const ENDING: [libc::c_int; 3] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP];

/// A signalfd for SIGINT, SIGTERM and SIGHUP, which are blocked in this thread and all that it starts.
#[derive(Debug)]
pub struct EndingSignals(File);

impl EndingSignals {
    /// Blocks the signals and opens the descriptor. Call before the first other thread.
    pub fn new() -> io::Result<EndingSignals> {
        // SAFETY: an all-zero sigset_t is valid memory for sigemptyset to fill.
        let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: `set` is ours; the signal numbers are constants of the system.
        unsafe {
            libc::sigemptyset(&raw mut set);
            for signal in ENDING {
                libc::sigaddset(&raw mut set, signal);
            }
        }
        // SAFETY: reads `set`, writes nothing.
        let error = unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
        if error != 0 {
            return Err(io::Error::from_raw_os_error(error));
        }
        // SAFETY: reads `set`; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd returned this descriptor just now; nobody else owns it.
        Ok(EndingSignals(unsafe { File::from_raw_fd(fd) }))
    }

    /// What the next signal that has arrived asks for.
    pub fn take(&mut self) -> Option<Ending> {
        // A signalfd_siginfo is 128 bytes and starts with ssi_signo (signalfd(2)).
        let mut info = [0; 128];
        match self.0.read(&mut info) {
            Ok(128) => Some(Ending::of([info[0], info[1], info[2], info[3]])),
            _ => None,
        }
    }
}

/// Whether one of these signals has come to this thread, which has blocked them, and waits to be taken.
pub fn end_is_asked() -> bool {
    // SAFETY: an all-zero sigset_t is valid memory for sigpending to fill.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes `set`, which is ours.
    unsafe { libc::sigpending(&raw mut set) };
    let has = |&signal: &libc::c_int| {
        // SAFETY: reads `set`; the signal number is a constant of the system.
        unsafe { libc::sigismember(&raw const set, signal) == 1 }
    };
    ENDING.iter().any(has)
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// SIGTERM, as of a service manager: an end in peace, if there is one.
    PowerDown,
    /// The others: nobody is there any more, or will wait.
    AtOnce,
}

impl Ending {
    /// The first field of a signalfd_siginfo.
    fn of(number: [u8; 4]) -> Ending {
        if i32::from_ne_bytes(number) == libc::SIGTERM {
            Ending::PowerDown
        } else {
            Ending::AtOnce
        }
    }
}

impl AsFd for EndingSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
pub(crate) mod testing {
    /// Sends this thread a signal.
    pub(crate) fn raise(signal: libc::c_int) {
        // SAFETY: it takes no pointers, and what a handler may do is the handler's matter.
        assert_eq!(unsafe { libc::raise(signal) }, 0);
    }
}
