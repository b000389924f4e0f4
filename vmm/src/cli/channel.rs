//! `-serial`, `-monitor` and `-qmp`: who talks where.

use std::path::PathBuf;

use super::keyval;
use super::properties::{Family, MONITOR_SOCKET, QMP_SOCKET};
use super::value::ValueError;

/// `-serial`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SerialArg {
    /// The terminal.
    Stdio,
    /// The terminal, which the monitor shares.
    Shared,
    /// Nowhere.
    None,
    /// A file, which is emptied first.
    File(PathBuf),
}

/// `-monitor`.
#[derive(Clone, Debug, PartialEq)]
pub enum MonitorArg {
    /// The terminal.
    Stdio,
    /// No monitor.
    None,
    /// A unix socket.
    Unix(PathBuf),
}

/// `-qmp`.
#[derive(Clone, Debug, PartialEq)]
pub struct QmpArg {
    /// The socket's file.
    pub path: PathBuf,
}

/// `-serial stdio|mon:stdio|none|file:PATH`.
pub fn serial(text: &str) -> Result<SerialArg, ValueError> {
    match text {
        "stdio" => Ok(SerialArg::Stdio),
        "mon:stdio" => Ok(SerialArg::Shared),
        "none" => Ok(SerialArg::None),
        _ => match text.strip_prefix("file:").map(|path| path.replace(",,", ",")) {
            Some(path) if !path.is_empty() => Ok(SerialArg::File(PathBuf::from(path))),
            _ => Err(not_accepted(text, "stdio, mon:stdio, none, file:PATH")),
        },
    }
}

/// `-monitor stdio|none|unix:PATH,…`.
pub fn monitor(text: &str) -> Result<MonitorArg, ValueError> {
    match text {
        "stdio" => Ok(MonitorArg::Stdio),
        "none" => Ok(MonitorArg::None),
        _ => match text.strip_prefix("unix:") {
            Some(rest) => socket(&MONITOR_SOCKET, rest).map(MonitorArg::Unix),
            None => Err(not_accepted(text, "stdio, none, unix:PATH,server=on,wait=off")),
        },
    }
}

/// `-qmp unix:PATH,…`.
pub fn qmp(text: &str) -> Result<QmpArg, ValueError> {
    match text.strip_prefix("unix:") {
        Some(rest) => socket(&QMP_SOCKET, rest).map(|path| QmpArg { path }),
        None => Err(not_accepted(text, "unix:PATH,server=on,wait=off")),
    }
}

fn not_accepted(value: &str, accepted: &str) -> ValueError {
    ValueError::NotAccepted {
        value: value.to_owned(),
        accepted: accepted.to_owned(),
    }
}

fn socket(family: &'static Family, rest: &str) -> Result<PathBuf, ValueError> {
    let properties = family.accept(keyval::split(rest, Some("path"))?)?;
    if properties.switch("server")? == Some(false) {
        return Err(ValueError::Refused {
            what: "server=off",
            why: "Ballast listens on a socket, it does not connect",
        });
    }
    let waits = properties.switch("wait")? == Some(true) || properties.switch("nowait")? == Some(false);
    if waits {
        return Err(ValueError::Refused {
            what: "wait=on",
            why: "the guest never waits for a client; -S keeps it from running until 'cont'",
        });
    }
    properties.required("path").map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_where_things_go() {
        assert_eq!(serial("stdio"), Ok(SerialArg::Stdio));
        assert_eq!(serial("mon:stdio"), Ok(SerialArg::Shared));
        assert_eq!(serial("none"), Ok(SerialArg::None));
        assert_eq!(serial("file:/tmp/a,,b"), Ok(SerialArg::File("/tmp/a,b".into())));
        assert_eq!(monitor("stdio"), Ok(MonitorArg::Stdio));
        assert_eq!(monitor("none"), Ok(MonitorArg::None));
        assert_eq!(monitor("unix:/m"), Ok(MonitorArg::Unix("/m".into())));
        let path = |text| qmp(text).map(|arg| arg.path);
        assert_eq!(path("unix:/q,server=on,wait=off"), Ok("/q".into()));
        assert_eq!(path("unix:/q,server,nowait"), Ok("/q".into()));
        assert_eq!(path("unix:path=/q=1"), Ok("/q=1".into()));
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        for wrong in ["", "file:", "pty", "mon:pty"] {
            serial(wrong).unwrap_err();
        }
        for wrong in [
            "unix:",
            "unix:/q,server=off",
            "unix:/q,wait=on",
            "unix:/q,nowait=off",
            "stdio",
            "unix:/q,a=b",
        ] {
            qmp(wrong).unwrap_err();
        }
        let error = monitor("unix:/m,server=on,wait").unwrap_err().to_string();
        assert!(error.contains("-S keeps it"), "{error}");
    }
}
