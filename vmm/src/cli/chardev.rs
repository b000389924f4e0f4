//! `-chardev`: what a console is connected to, and daemons with the devices that they serve.

use std::path::PathBuf;
use std::time::Duration;

use super::channel::SerialArg;
use super::keyval;
use super::properties::devices::{CHARDEV_FILE, CHARDEV_NULL, CHARDEV_STDIO};
use super::properties::vhost_user::CHARDEV;
use super::properties::{Family, Properties};
use super::value::ValueError;

/// Bytes that the path of a socket may have (unix(7), without the NUL).
const MAX_PATH: usize = 107;

/// One `-chardev`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChardevArg {
    /// A daemon's.
    Socket(SocketArg),
    /// A console's.
    Outlet(OutletArg),
}

impl ChardevArg {
    /// `id=`.
    pub fn id(&self) -> &str {
        match self {
            ChardevArg::Socket(socket) => &socket.id,
            ChardevArg::Outlet(outlet) => &outlet.id,
        }
    }
}

/// `-chardev stdio`, `file` or `null`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutletArg {
    /// `id=`.
    pub id: String,
    /// Where it goes.
    pub to: SerialArg,
}

/// `-chardev socket`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketArg {
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

/// A type of `-chardev`, and what makes one.
type Kind = (&'static Family, fn(&Properties) -> Result<ChardevArg, ValueError>);

const KINDS: &[Kind] = &[
    (&CHARDEV_STDIO, |properties| outlet(properties, SerialArg::Stdio)),
    (&CHARDEV_FILE, |properties| {
        let path = properties.required("path")?.into();
        outlet(properties, SerialArg::File(path))
    }),
    (&CHARDEV_NULL, |properties| outlet(properties, SerialArg::None)),
    (&CHARDEV, |properties| socket(properties).map(ChardevArg::Socket)),
];

/// `-chardev TYPE,id=ID,…`.
pub fn chardev(text: &str) -> Result<ChardevArg, ValueError> {
    let (kind, pairs) = keyval::typed(keyval::split(text, Some("backend"))?, "-chardev", "backend")?;
    let names = || KINDS.iter().map(|(family, _)| family.owner);
    let found = KINDS.iter().find(|(family, _)| family.owner == kind);
    let (family, make) = found.ok_or_else(|| ValueError::unknown_type("chardev", kind, names()))?;
    let properties = family.accept(pairs)?;
    properties.required("id")?;
    make(&properties)
}

fn outlet(properties: &Properties, to: SerialArg) -> Result<ChardevArg, ValueError> {
    let id = properties.id("id")?.unwrap_or_default();
    Ok(ChardevArg::Outlet(OutletArg { id, to }))
}

fn socket(properties: &Properties) -> Result<SocketArg, ValueError> {
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
    Ok(SocketArg {
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
        let socket = |reconnect| {
            ChardevArg::Socket(SocketArg {
                id: "c".into(),
                path: "/run/c".into(),
                reconnect,
            })
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
    fn outlets_are_told_apart() {
        let outlet = |text| match chardev(text) {
            Ok(ChardevArg::Outlet(outlet)) => outlet,
            other => panic!("{text}: {other:?}"),
        };
        let stdio = outlet("stdio,id=c");
        assert_eq!((stdio.id.as_str(), stdio.to), ("c", SerialArg::Stdio));
        let file = outlet("file,id=c,path=/tmp/a,,b");
        assert_eq!(file.to, SerialArg::File("/tmp/a,b".into()));
        assert_eq!(outlet("backend=null,id=c").to, SerialArg::None);
        for (wrong, says) in [
            ("stdio", "needs 'id=…'"),
            ("file,id=c", "needs 'path=…'"),
            ("stdi,id=c", "did you mean 'stdio'"),
            ("null,id=c,path=/tmp/a", "no property 'path'"),
        ] {
            let error = chardev(wrong).unwrap_err().to_string();
            assert!(error.contains(says), "{wrong}: {error}");
        }
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
