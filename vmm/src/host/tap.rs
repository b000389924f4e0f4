//! Tap interfaces of the host (Documentation/networking/tuntap.rst): frames with virtio's own header before them.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use devices::net::{HEADER, Network, Offloads, Piece};
use memory::transfer;

/// Where all of them are opened.
const DEVICE: &str = "/dev/net/tun";
/// Bytes of an interface's name at most (`IFNAMSIZ` less the zero at its end).
pub const MAX_NAME: usize = libc::IFNAMSIZ - 1;

/// Why a guest cannot have an interface.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The kernel's driver is not there, or not for us.
    #[error(
        "cannot open {DEVICE}: tap interfaces need the kernel's module 'tun' ('modprobe tun') and access to this file"
    )]
    Open(#[source] io::Error),
    /// No such interface here.
    #[error(
        "there is no interface '{name}': make it with 'ip tuntap add dev {name} mode tap user USER' and 'ip link set {name} up'"
    )]
    Missing {
        /// Its name.
        name: String,
    },
    /// Somebody else's interface.
    #[error(
        "the interface '{name}' belongs to somebody else: give it to this user with 'ip tuntap add dev {name} mode tap user USER', or run with CAP_NET_ADMIN"
    )]
    Denied {
        /// Its name.
        name: String,
    },
    /// Another program has it.
    #[error("the interface '{name}' is in use: another program, perhaps another guest, has it open")]
    Busy {
        /// Its name.
        name: String,
    },
    /// An interface of another kind.
    #[error(
        "the interface '{name}' is not a tap interface with one queue: 'ip -details link show {name}' says what it is"
    )]
    NotTap {
        /// Its name.
        name: String,
    },
    /// The kernel refuses something that it should not.
    #[error("the interface '{name}': {what}")]
    Set {
        /// Its name.
        name: String,
        /// What was asked.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// An interface that is ours; it is given back, not removed, when this is dropped.
#[derive(Debug)]
pub struct Tap {
    file: File,
}

impl Tap {
    /// Takes the interface `name`, which must be there.
    pub fn open(name: &str) -> Result<Tap, TapError> {
        let named = || name.to_owned();
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(DEVICE)
            .map_err(TapError::Open)?;
        // The kernel would make one that nobody has connected to anything.
        if !exists(name) {
            return Err(TapError::Missing { name: named() });
        }
        attach(&file, name).map_err(|source| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => TapError::Denied { name: named() },
            Some(libc::EBUSY) => TapError::Busy { name: named() },
            Some(libc::EINVAL) => TapError::NotTap { name: named() },
            _ => TapError::Set {
                name: named(),
                what: "cannot be taken",
                source,
            },
        })?;
        set_header(&file).map_err(|source| TapError::Set {
            name: named(),
            what: "does not do virtio's header",
            source,
        })?;
        let mut tap = Tap { file };
        tap.set_offloads(Offloads::default())
            .map_err(|source| TapError::Set {
                name: named(),
                what: "does not do without offloads",
                source,
            })?;
        Ok(tap)
    }
}

impl Network for Tap {
    fn receive(&mut self, frame: &mut [u8]) -> io::Result<usize> {
        self.file.read(frame)
    }

    fn send(&mut self, frame: &[Piece<'_>]) -> io::Result<()> {
        transfer::send(self.file.as_fd(), frame)
    }

    fn set_offloads(&mut self, offloads: Offloads) -> io::Result<()> {
        let flags = [
            (offloads.checksum, libc::TUN_F_CSUM),
            (offloads.tso4, libc::TUN_F_TSO4),
            (offloads.tso6, libc::TUN_F_TSO6),
            (offloads.ecn, libc::TUN_F_TSO_ECN),
        ];
        let flags = flags.iter().filter(|(wanted, _)| *wanted);
        let flags = flags.fold(0, |all, (_, flag)| all | flag);
        // SAFETY: TUNSETOFFLOAD takes a number, and touches no memory of ours.
        check(unsafe {
            libc::ioctl(
                self.file.as_raw_fd(),
                libc::TUNSETOFFLOAD,
                libc::c_ulong::from(flags),
            )
        })
    }

    fn readable(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Whether there is an interface of this name, of any kind, in our network namespace.
fn exists(name: &str) -> bool {
    let Ok(name) = CString::new(name) else {
        return false;
    };
    // SAFETY: `name` is a string with a zero at its end, and lives until the call returns.
    unsafe { libc::if_nametoindex(name.as_ptr()) != 0 }
}

/// TUNSETIFF: makes `file` the other end of the interface.
fn attach(file: &File, name: &str) -> io::Result<()> {
    // SAFETY: an all-zero ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() > MAX_NAME {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
    // SAFETY: the kernel reads and writes `request`, which lives until the call returns.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) })
}

/// TUNSETVNETHDRSZ: the header has virtio 1's length.
fn set_header(file: &File) -> io::Result<()> {
    let size = libc::c_int::try_from(HEADER).map_err(io::Error::other)?;
    // SAFETY: the kernel reads `size`, which lives until the call returns.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw const size) })
}

#[cfg(test)]
mod tests;
