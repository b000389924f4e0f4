//! A guest's end of sockets to the host, for command lines of tests.

use std::io::{self, Write, stdin, stdout};
use std::net::Shutdown;
use std::thread;

use vsock::{VMADDR_CID_ANY, VMADDR_CID_HOST, VsockListener, VsockStream};

/// Connects to `port` of the host: what comes goes to standard output, standard input goes there.
pub fn connect(port: u32) -> io::Result<()> {
    let stream = VsockStream::connect_with_cid_port(VMADDR_CID_HOST, port)?;
    let mut way_back = stream.try_clone()?;
    let back = thread::spawn(move || io::copy(&mut way_back, &mut stdout()));
    io::copy(&mut stdin(), &mut &stream)?;
    stream.shutdown(Shutdown::Write)?;
    back.join().map_err(|_| io::Error::other("a thread panicked"))??;
    stdout().flush()
}

/// Serves one connection at `port` and gives back what comes, to its end.
pub fn serve(port: u32) -> io::Result<()> {
    let (stream, _) = VsockListener::bind_with_cid_port(VMADDR_CID_ANY, port)?.accept()?;
    io::copy(&mut &stream, &mut &stream)?;
    stream.shutdown(Shutdown::Write)
}
