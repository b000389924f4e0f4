//! `-device virtio-vsock-pci`.

use std::path::PathBuf;

use super::properties::Properties;
use super::value::ValueError;
use crate::control::socket::MAX_PATH;

/// Ids that a guest may have: those below are taken, the last one means any.
const CIDS: std::ops::RangeInclusive<u64> = 3..=0xffff_fffe;
/// What comes after the path for a port: `_` and ten digits.
const SUFFIX: usize = "_4294967295".len();

/// `-device virtio-vsock-pci`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VsockArg {
    /// `id=`.
    pub id: Option<String>,
    /// `guest-cid=`.
    pub guest_cid: u32,
    /// `socket=`.
    pub socket: PathBuf,
}

pub(super) fn device(properties: &Properties) -> Result<VsockArg, ValueError> {
    properties.required("guest-cid")?;
    let cid = properties.number("guest-cid", CIDS)?;
    let socket = properties.required("socket")?;
    if socket.len() + SUFFIX > MAX_PATH {
        return Err(properties.wrong(
            "socket",
            "a path of at most 96 bytes: a port's number has to fit behind it",
        ));
    }
    Ok(VsockArg {
        id: properties.id("id")?,
        guest_cid: cid.and_then(|cid| u32::try_from(cid).ok()).unwrap_or(3),
        socket: socket.into(),
    })
}

#[cfg(test)]
mod tests {
    use crate::cli::device::{DeviceArg, device};

    #[test]
    fn a_guest_has_an_id_and_a_socket() {
        let DeviceArg::Vsock(arg) = device("virtio-vsock-pci,guest-cid=3,socket=/run/a,,b").unwrap() else {
            panic!("no vsock");
        };
        assert_eq!((arg.guest_cid, arg.socket.to_str()), (3, Some("/run/a,b")));
        let longest = "x".repeat(96);
        assert!(device(&format!("vhost-vsock-pci,guest-cid=4294967294,socket={longest}")).is_ok());
        for (wrong, says) in [
            ("socket=v".to_owned(), "needs 'guest-cid=…'"),
            ("guest-cid=3".to_owned(), "needs 'socket=…'"),
            ("guest-cid=2,socket=v".to_owned(), "guest-cid=2"),
            ("guest-cid=4294967295,socket=v".to_owned(), "guest-cid=4294967295"),
            (format!("guest-cid=3,socket={longest}x"), "at most 96 bytes"),
            ("guest-cid=3,socket=".to_owned(), "needs 'socket=…'"),
        ] {
            let error = device(&format!("virtio-vsock-pci,{wrong}"))
                .unwrap_err()
                .to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
    }
}
