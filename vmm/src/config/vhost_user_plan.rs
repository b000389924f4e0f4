//! Daemons, and the devices that they serve.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use super::device_plan::duplicate;
use crate::cli::chardev::{ChardevArg, SocketArg};

/// Daemons that do not fit together with devices.
#[derive(Debug, thiserror::Error)]
pub enum ChardevError {
    /// Two sockets with one name.
    #[error("two chardevs have the id '{id}'")]
    Duplicate {
        /// The id.
        id: String,
    },
    /// A socket that was not defined, or something else.
    #[error(
        "{what},chardev={id}: there is no chardev '{id}' of the kind socket; -chardev socket,id={id},path=… defines it"
    )]
    Unknown {
        /// The device or network.
        what: &'static str,
        /// The id.
        id: String,
    },
    /// A socket of two devices.
    #[error("the chardev '{id}' has two devices: a connection to a daemon is for one")]
    Twice {
        /// The id.
        id: String,
    },
}

/// The socket of a daemon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chardev {
    /// Its name.
    pub id: String,
    /// The socket's file.
    pub path: PathBuf,
}

fn socket(chardev: &ChardevArg) -> Option<&SocketArg> {
    match chardev {
        ChardevArg::Socket(socket) => Some(socket),
        ChardevArg::Outlet(_) => None,
    }
}

/// The sockets, and which are used.
pub(super) struct Chardevs<'a> {
    all: Vec<&'a SocketArg>,
    used: HashSet<&'a str>,
}

impl<'a> Chardevs<'a> {
    pub(super) fn new(all: &'a [ChardevArg]) -> Result<Chardevs<'a>, ChardevError> {
        match duplicate(all.iter().map(ChardevArg::id)) {
            Some(id) => Err(ChardevError::Duplicate { id }),
            None => Ok(Chardevs {
                all: all.iter().filter_map(socket).collect(),
                used: HashSet::new(),
            }),
        }
    }

    /// The socket `id` for `what`, and how often to look for a daemon that has gone.
    pub(super) fn take(
        &mut self,
        what: &'static str,
        id: String,
    ) -> Result<(Chardev, Option<Duration>), ChardevError> {
        let Some(found) = self.all.iter().find(|chardev| chardev.id == id) else {
            return Err(ChardevError::Unknown { what, id });
        };
        if !self.used.insert(&found.id) {
            return Err(ChardevError::Twice { id });
        }
        let path = found.path.clone();
        Ok((Chardev { id, path }, found.reconnect))
    }

    /// Warnings about sockets without a device.
    pub(super) fn unused(&self) -> impl Iterator<Item = String> {
        let unused = self
            .all
            .iter()
            .filter(|chardev| !self.used.contains(chardev.id.as_str()));
        unused.map(|chardev| {
            format!(
                "the chardev '{}' is not used: name it with -device vhost-user-blk-pci,chardev= or -netdev \
                 vhost-user,chardev=",
                chardev.id
            )
        })
    }
}
