//! Where a daemon speaks without being asked. There is one thing only that it may tell: that its configuration may have changed.

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;

/// Messages of a daemon's own that may wait for us.
const MOST_NEWS: usize = 64;

/// Our end.
#[derive(Debug)]
pub(super) struct Channel(UnixStream);

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Channel {
    /// Our end and the daemon's.
    pub(super) fn open() -> io::Result<(Channel, UnixStream)> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((Channel(ours), theirs))
    }

    /// Takes all that the daemon has told, and answers where it waits for that. False when the channel has come to its end, is
    /// flooded, or says something else.
    pub(super) fn take_news(&mut self) -> bool {
        for _ in 0..MOST_NEWS {
            match take_one(&mut self.0) {
                Ok(()) => {}
                Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
            }
        }
        false
    }
}

/// Takes one message from `channel`: a header of request, flags and size of the payload, which is 0.
fn take_one(channel: &mut UnixStream) -> io::Result<()> {
    const HEADER: usize = 12;
    const CONFIG_CHANGE: u32 = 2;
    const NEED_REPLY: u32 = 1 << 3;
    const REPLY: u32 = 1 << 2;
    const VERSION: u32 = 1;
    let invalid = || io::Error::from(io::ErrorKind::InvalidData);
    let mut header = [0; HEADER];
    if channel.read(&mut header)? != HEADER {
        return Err(invalid());
    }
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if (word(0), word(8)) != (CONFIG_CHANGE, 0) {
        return Err(invalid());
    }
    if word(4) & NEED_REPLY != 0 {
        let mut answer = [0; HEADER + 8];
        answer[..4].copy_from_slice(&CONFIG_CHANGE.to_le_bytes());
        answer[4..8].copy_from_slice(&(VERSION | REPLY).to_le_bytes());
        answer[8] = 8;
        // A daemon that does not read its answers loses the channel.
        channel.write_all(&answer).map_err(|_| invalid())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(request: u32, flags: u32, size: u32) -> Vec<u8> {
        [request, flags, size].map(u32::to_le_bytes).concat()
    }

    #[test]
    fn answers_who_waits_for_it() {
        let (mut channel, mut daemon) = Channel::open().unwrap();
        assert!(channel.take_news(), "there is nothing yet");
        daemon.write_all(&message(2, 1, 0)).unwrap();
        daemon.write_all(&message(2, 1 | 8, 0)).unwrap();
        assert!(channel.take_news());
        let mut answer = [0; 20];
        daemon.read_exact(&mut answer).unwrap();
        assert_eq!(answer[..12], message(2, 5, 8));
        assert_eq!(answer[12..], [0; 8]);
        drop(daemon);
        assert!(!channel.take_news());
    }

    #[test]
    fn is_closed_to_who_floods_or_babbles() {
        for bytes in [
            message(2, 1, 0).repeat(100),
            message(3, 1, 0),
            message(2, 1, 8),
            vec![2; 5],
        ] {
            let (mut channel, mut daemon) = Channel::open().unwrap();
            daemon.write_all(&bytes).unwrap();
            assert!(!channel.take_news(), "{bytes:?}");
        }
    }
}
