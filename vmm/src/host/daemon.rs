//! `-daemonize`: a process that goes on alone, and one that waits until it can be left alone.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

/// Which of the two this process is.
#[derive(Debug)]
pub enum Side {
    /// The one that was started: the other has become independent, or has ended with this exit code.
    Left(u8),
    /// The other.
    Daemon(Daemon),
}

/// The process that goes on, not independent yet.
#[derive(Debug)]
pub struct Daemon(io::PipeWriter);

/// Makes a second process. In the one that was started, returns when the second one is independent or has ended; what that
/// says until then on standard error is seen by whoever started it, and so is how it ended.
///
/// To be called before there is any other thread.
pub fn split() -> io::Result<Side> {
    let (mut news, told) = io::pipe()?;
    // SAFETY: there is one thread only, so that the new process may do whatever this one may.
    let pid = unsafe { libc::fork() };
    if pid < 0 {
        return Err(io::Error::last_os_error());
    }
    if pid == 0 {
        return Ok(Side::Daemon(Daemon(told)));
    }
    drop(told);
    match news.read(&mut [0])? {
        0 => exit_code(pid).map(Side::Left),
        _ => Ok(Side::Left(0)),
    }
}

/// Waits for the end of a process that has failed; by a signal is a failure too.
fn exit_code(pid: libc::pid_t) -> io::Result<u8> {
    let mut status = 0;
    // SAFETY: `pid` is our child, which nobody else waits for; the status is ours.
    while unsafe { libc::waitpid(pid, &raw mut status, 0) } < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
}

impl Daemon {
    /// The start is over: leaves the terminal, for which nobody waits any more, and lets the other process go.
    ///
    /// The directory stays: files named by the command line are opened again when the guest is reset.
    pub fn leave(mut self) -> io::Result<()> {
        let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        // SAFETY: changes nothing but this process's session. It leads no group: the one that forked it may.
        if unsafe { libc::setsid() } < 0 {
            return Err(io::Error::last_os_error());
        }
        [libc::STDIN_FILENO, libc::STDOUT_FILENO, libc::STDERR_FILENO]
            .into_iter()
            .try_for_each(|fd| put(&nothing, fd))?;
        self.0.write_all(&[1])
    }
}

/// Puts `file` in the place of descriptor `fd`.
fn put(file: &File, fd: libc::c_int) -> io::Result<()> {
    // SAFETY: both are open; of the standard streams the library keeps numbers only.
    match unsafe { libc::dup2(file.as_raw_fd(), fd) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}
