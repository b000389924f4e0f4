//! Where the output of the serial port and of the console goes.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::Path;

use devices::virtio::console::Outlet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FileType, fstat};

use super::Error;
use crate::config::SerialSpec;
use crate::gate::Hurry;

/// For a port whose driver waits where nothing is taken, until `hurry` says that its vCPU is wanted.
pub(super) fn serial(spec: &SerialSpec, hurry: &Hurry) -> Result<Box<dyn Write + Send>, Error> {
    Ok(match spec {
        SerialSpec::Stdio => awaited(io::stdout(), hurry),
        SerialSpec::None => Box::new(io::sink()),
        SerialSpec::File(path) => awaited(create(path)?, hurry),
    })
}

/// For a device whose thread has other duties, and tries again.
pub(super) fn console(spec: &SerialSpec) -> Result<Outlet, Error> {
    Ok(match spec {
        SerialSpec::Stdio => Box::new(Polled(io::stdout())),
        SerialSpec::None => Box::new(io::sink()),
        SerialSpec::File(path) => Box::new(create(path)?),
    })
}

fn create(path: &Path) -> Result<File, Error> {
    File::create(path).map_err(|source| Error::OutputFile {
        path: path.to_owned(),
        source,
    })
}

/// A file never waits for a reader, and is not asked.
fn awaited<F: AsFd + Write + Send + 'static>(to: F, hurry: &Hurry) -> Box<dyn Write + Send> {
    let regular =
        fstat(&to).is_ok_and(|state| FileType::from_raw_mode(state.st_mode) == FileType::RegularFile);
    if regular {
        return Box::new(to);
    }
    Box::new(Awaited {
        to: Polled(to),
        hurry: hurry.clone(),
        kept: Vec::new(),
    })
}

/// Something that others may have open too, as standard output, written to only as far as that does not wait: a terminal may be
/// stopped, and nobody may read a pipe. It is not made non-blocking, since others share it.
struct Polled<F>(F);

/// So much a pipe takes at once when it takes something (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;

const NO_TIME: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 0,
};

impl<F: AsFd> Polled<F> {
    /// Writes the first of `bytes`; `WouldBlock` where none is taken in this time.
    fn write_within(&self, time: &Timespec, bytes: &[u8]) -> io::Result<usize> {
        let mut fds = [PollFd::new(&self.0, PollFlags::OUT)];
        if poll(&mut fds, Some(time))? == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(rustix::io::write(&self.0, &bytes[..bytes.len().min(PIECE)])?)
    }
}

impl<F: AsFd> Write for Polled<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_within(&NO_TIME, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How long a vCPU that waits does not look whether it is wanted.
const SLICE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};
/// Most bytes kept. Each time that it is wanted, a vCPU leaves what it wrote in one exit, a page at most.
const MOST_KEPT: usize = 64 << 10;

/// An outlet that vCPUs wait for, until they are wanted elsewhere. What is not written then is kept, and goes first the next time.
struct Awaited<F> {
    to: Polled<F>,
    hurry: Hurry,
    kept: Vec<u8>,
}

impl<F: AsFd> Write for Awaited<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.kept.len() >= MOST_KEPT {
            self.flush()?;
        }
        let taken = bytes.len().min(MOST_KEPT.saturating_sub(self.kept.len()));
        if taken == 0 && !bytes.is_empty() {
            return Err(ErrorKind::StorageFull.into());
        }
        self.kept.extend(&bytes[..taken]);
        self.flush()?;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.kept.is_empty() {
            let hurry = self.hurry.is_on();
            let time = if hurry { &NO_TIME } else { &SLICE };
            match self.to.write_within(time, &self.kept) {
                Ok(count @ 1..) => drop(self.kept.drain(..count)),
                // A signal is what gets a vCPU to look.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    if hurry {
                        return Ok(());
                    }
                }
                failed => {
                    self.kept.clear();
                    return failed.and(Err(ErrorKind::WriteZero.into()));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
