//! Where the output of the serial port and of the console goes.

use std::fs::File;
use std::io::{self, ErrorKind, Stdout, Write};
use std::path::Path;

use devices::virtio::console::Outlet;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::Error;
use crate::config::SerialSpec;

/// For a port whose driver waits where nothing is taken.
pub(super) fn serial(spec: &SerialSpec) -> Result<Box<dyn Write + Send>, Error> {
    Ok(match spec {
        SerialSpec::Stdio => Box::new(io::stdout()),
        SerialSpec::None => Box::new(io::sink()),
        SerialSpec::File(path) => Box::new(create(path)?),
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

/// Standard output, written to only as far as that does not wait: a terminal may be stopped, and nobody may read a pipe. It is
/// not made non-blocking, since others share it.
struct Polled(Stdout);

/// So much a pipe takes at once when it takes something (`PIPE_BUF`, pipe(7)).
const PIECE: usize = 4096;

impl Write for Polled {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut fds = [PollFd::new(&self.0, PollFlags::OUT)];
        if poll(&mut fds, Some(&Timespec::default()))? == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(rustix::io::write(&self.0, &bytes[..bytes.len().min(PIECE)])?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
