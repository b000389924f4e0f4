//! A TCP connection at full speed, between the guest and the host.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::disk::Done;

/// Bytes that are written or read at once.
const PIECE: usize = 64 << 10;
/// How long the other side may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// What goes over the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Bytes, to the other side.
    Send,
    /// Bytes, from the other side.
    Receive,
    /// A byte to the other side, its byte back, and so on.
    Ask,
}

/// The words for them.
const WAYS: [(&str, Way); 3] = [("send", Way::Send), ("receive", Way::Receive), ("ask", Way::Ask)];

/// One connection's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// What it carries.
    pub way: Way,
    /// For how long.
    pub milliseconds: u64,
}

impl Stream {
    /// Connects and does it: bytes, or questions that were answered, and the time from the first to the last. Both sides of a
    /// connection do this; the other one's [`Stream::serve`] fits.
    pub fn run(&self, address: SocketAddr) -> io::Result<Done> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        prepare(&stream)?;
        let start = Instant::now();
        let blocks = match self.way {
            Way::Send => {
                let sent = self.send(&mut stream, start)?;
                stream.shutdown(Shutdown::Write)?;
                // The other side ends when it has everything.
                drain(&mut stream)?;
                sent
            }
            Way::Receive => drain(&mut stream)?,
            Way::Ask => {
                let (mut answers, mut byte) = (0, [0xb5]);
                while start.elapsed() < self.time() {
                    stream.write_all(&byte)?;
                    stream.read_exact(&mut byte)?;
                    answers += 1;
                }
                answers
            }
        };
        let took = start.elapsed();
        Ok(Done { blocks, took })
    }

    /// What the other side does with a connection.
    pub fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        prepare(&stream)?;
        match self.way {
            Way::Send => drain(&mut stream).map(drop),
            Way::Receive => self.send(&mut stream, Instant::now()).map(drop),
            Way::Ask => {
                let mut byte = [0];
                while stream.read(&mut byte)? == 1 {
                    stream.write_all(&byte)?;
                }
                Ok(())
            }
        }
    }

    fn time(&self) -> Duration {
        Duration::from_millis(self.milliseconds)
    }

    fn send(&self, stream: &mut TcpStream, start: Instant) -> io::Result<u64> {
        let piece = vec![0xb5; PIECE];
        let mut sent = 0;
        while start.elapsed() < self.time() {
            stream.write_all(&piece)?;
            sent += piece.len() as u64;
        }
        Ok(sent)
    }

    /// Reads the words that `Display` writes.
    pub fn parse(words: &[&str]) -> Option<Stream> {
        let [way, milliseconds] = words else { return None };
        let way = WAYS.iter().find(|(word, _)| word == way)?.1;
        let milliseconds = milliseconds.parse().ok()?;
        Some(Stream { way, milliseconds })
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = WAYS.iter().find(|(_, way)| *way == self.way);
        write!(out, "{} {}", word.map_or("", |(word, _)| word), self.milliseconds)
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))
}

/// Reads until the other side has no more; how much that was.
fn drain(stream: &mut TcpStream) -> io::Result<u64> {
    let (mut piece, mut all) = (vec![0; PIECE], 0);
    loop {
        match stream.read(&mut piece)? {
            0 => return Ok(all),
            count => all += count as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    #[test]
    fn every_way_moves_something_and_ends() {
        for (_, way) in WAYS {
            let stream = Stream {
                way,
                milliseconds: 200,
            };
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = thread::spawn(move || stream.serve(listener.accept().unwrap().0));
            let done = stream.run(address).unwrap();
            server.join().unwrap().unwrap();
            assert!(
                done.blocks > 0 && done.took >= Duration::from_millis(200),
                "{way:?}: {done:?}"
            );
        }
    }
}
