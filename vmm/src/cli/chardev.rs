//! `-chardev`, and the devices that a daemon serves behind one.

use std::path::PathBuf;
use std::time::Duration;

use super::keyval;
use super::properties::Properties;
use super::properties::vhost_user::CHARDEV;
use super::value::ValueError;

/// Bytes that the path of a socket may have (unix(7), without the NUL).
const MAX_PATH: usize = 107;

/// One `-chardev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChardevArg {
    /// `id=`.
    pub id: String,
    /// `path=`.
    pub path: PathBuf,
    /// `reconnect=`, if it is not 0.
    pub reconnect: Option<Duration>,
}

/// One `-device vhost-user-blk-pci`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhostUserBlkArg {
    /// `id=`.
    pub id: Option<String>,
    /// `chardev=`.
    pub chardev: String,
    /// `num-queues=`.
    pub queues: Option<u16>,
}

/// `-chardev socket,id=…,path=…`.
pub fn chardev(text: &str) -> Result<ChardevArg, ValueError> {
    let (kind, pairs) = keyval::typed(keyval::split(text, Some("backend"))?, "-chardev", "backend")?;
    if kind != "socket" {
        return Err(ValueError::unknown_type("chardev", kind, ["socket"].into_iter()));
    }
    let properties = CHARDEV.accept(pairs)?;
    properties.required("id")?;
    let path = properties.required("path")?;
    if path.len() > MAX_PATH {
        return Err(properties.wrong("path", "a path of at most 107 bytes"));
    }
    if properties.switch("server")? == Some(true) {
        return Err(ValueError::Refused {
            what: "server=on",
            why: "the daemon listens, and Ballast connects to it",
        });
    }
    let reconnect = properties.seconds("reconnect")?.unwrap_or_default();
    Ok(ChardevArg {
        id: properties.id("id")?.unwrap_or_default(),
        path: path.into(),
        reconnect: (!reconnect.is_zero()).then_some(reconnect),
    })
}

/// The device that its properties describe.
pub(super) fn blk(properties: &Properties) -> Result<VhostUserBlkArg, ValueError> {
    properties.required("chardev")?;
    let queues = properties.number("num-queues", 1..=devices::virtio::vhost_user::MAX_QUEUES.into())?;
    Ok(VhostUserBlkArg {
        id: properties.id("id")?,
        chardev: properties.id("chardev")?.unwrap_or_default(),
        queues: queues.and_then(|queues| u16::try_from(queues).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_where_a_daemon_is() {
        let socket = |reconnect| ChardevArg {
            id: "c".into(),
            path: "/run/c".into(),
            reconnect,
        };
        assert_eq!(chardev("socket,id=c,path=/run/c"), Ok(socket(None)));
        assert_eq!(
            chardev("socket,id=c,path=/run/c,reconnect=0,server=off"),
            Ok(socket(None))
        );
        let two = Some(Duration::from_secs(2));
        assert_eq!(
            chardev("backend=socket,path=/run/c,id=c,reconnect=2"),
            Ok(socket(two))
        );
    }

    #[test]
    fn refuses_what_is_no_daemon() {
        let text = |text| chardev(text).unwrap_err().to_string();
        assert!(text("socket,id=c,path=/c,server=on").contains("the daemon listens"));
        assert!(text("pty,id=c").contains("socket"), "{}", text("pty,id=c"));
        let long = format!("socket,id=c,path=/{}", "a".repeat(107));
        assert!(text(&long).contains("107"));
        for wrong in [
            "",
            "socket",
            "socket,id=c",
            "socket,path=/c",
            "socket,id=c,path=/c,mux=on",
        ] {
            chardev(wrong).unwrap_err();
        }
    }
}
