//! Unix sockets that listen: taken over from the dead, left to the living, removed at the end.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Longest path of a socket: `sun_path` has 108 bytes, one of them for the end (unix(7)).
pub const MAX_PATH: usize = 107;

/// Why nobody can be listened to on a path.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The kernel takes no such path.
    #[error("the socket path '{}' has {length} bytes, the kernel takes at most {MAX_PATH}", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// Somebody listens there.
    #[error("the socket '{}' is in use: somebody answers there", path.display())]
    Answered {
        /// The path.
        path: PathBuf,
    },
    /// There is something else, which may be worth something.
    #[error("'{}' exists and is not a socket; it was left alone", path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// It could not be found out what there is.
    #[error("cannot see whether '{}' is in use", path.display())]
    Probe {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A stale socket could not be removed.
    #[error("cannot remove the stale socket '{}'", path.display())]
    Remove {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot listen on the socket '{}'", path.display())]
    Listen {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A listening socket, non-blocking, and its file, which goes when this is dropped.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    file: SocketFile,
}

/// The file of a socket; goes when this is dropped.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode, so that nobody else's is removed.
    id: Option<(u64, u64)>,
}

impl Listener {
    /// Listens on `path`. A socket that refuses connections was left behind by a process that is gone: it is replaced.
    pub fn bind(path: &Path) -> Result<Listener, SocketError> {
        let length = path.as_os_str().as_bytes().len();
        if length > MAX_PATH {
            return Err(SocketError::TooLong {
                path: path.to_owned(),
                length,
            });
        }
        make_room(path)?;
        let listen = |source| SocketError::Listen {
            path: path.to_owned(),
            source,
        };
        let socket = UnixListener::bind(path).map_err(listen)?;
        let file = SocketFile {
            path: path.to_owned(),
            id: id(path),
        };
        let listener = Listener { socket, file };
        listener.socket.set_nonblocking(true).map_err(listen)?;
        Ok(listener)
    }

    /// The next client that waits, non-blocking; `WouldBlock` when none does.
    pub fn accept(&self) -> io::Result<UnixStream> {
        accept(&self.socket)
    }

    /// The socket's file.
    pub fn path(&self) -> &Path {
        &self.file.path
    }

    /// The socket alone, for somebody who may outlive its file.
    pub fn apart(self) -> (UnixListener, SocketFile) {
        (self.socket, self.file)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.id.is_some() && self.id == id(&self.path) {
            // Failing to remove it leaves a stale socket, which the next start replaces.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The next client that waits at `socket`, non-blocking; `WouldBlock` when none does.
pub fn accept(socket: &UnixListener) -> io::Result<UnixStream> {
    let (stream, _) = socket.accept()?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Device and inode of a file.
fn id(path: &Path) -> Option<(u64, u64)> {
    let data = fs::symlink_metadata(path).ok()?;
    Some((data.dev(), data.ino()))
}

/// Removes a stale socket at `path`; refuses when anything else is there.
fn make_room(path: &Path) -> Result<(), SocketError> {
    let probe = |source| SocketError::Probe {
        path: path.to_owned(),
        source,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(probe(error)),
        Ok(data) if !data.file_type().is_socket() => {
            return Err(SocketError::NotASocket {
                path: path.to_owned(),
            });
        }
        Ok(_) => {}
    }
    let address = SocketAddrUnix::new(path).map_err(|error| probe(error.into()))?;
    // Not blocking: a living server whose queue is full answers EAGAIN, and is alive.
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
        .map_err(|error| probe(error.into()))?;
    match connect(&socket, &address) {
        // EPROTOTYPE: a datagram socket with an owner.
        Ok(()) | Err(Errno::AGAIN | Errno::INPROGRESS | Errno::PROTOTYPE) => Err(SocketError::Answered {
            path: path.to_owned(),
        }),
        Err(Errno::CONNREFUSED) => match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SocketError::Remove {
                path: path.to_owned(),
                source: error,
            }),
            _ => Ok(()),
        },
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(probe(error.into())),
    }
}

#[cfg(test)]
mod tests;
