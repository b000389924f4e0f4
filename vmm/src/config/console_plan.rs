//! The console of virtio, and what it is connected to.

use std::collections::HashSet;

use crate::cli::chardev::{ChardevArg, OutletArg};
use crate::cli::console::{ConsoleArg, SerialBusArg};

use super::SerialSpec;
use super::device_plan::{DeviceError, name};

/// Why there is no console.
#[derive(Debug, thiserror::Error)]
pub enum ConsoleError {
    /// One that was not defined, or is a daemon's socket.
    #[error(
        "virtconsole,chardev={id}: there is no chardev '{id}' of the kind stdio, file or null; -chardev stdio,id={id} defines it"
    )]
    UnknownChardev {
        /// The id.
        id: String,
    },
    /// A console on no bus.
    #[error("-device virtconsole needs a -device virtio-serial-pci before it")]
    NoBus,
    /// A bus with nothing on it.
    #[error("-device virtio-serial-pci needs its console: -device virtconsole,chardev=ID")]
    NoConsole,
    /// More than there is room for.
    #[error("a guest has one virtio-serial-pci with one virtconsole here")]
    Several,
}

/// A console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleSpec {
    /// The name of its PCI device.
    pub id: String,
    /// The name of the port.
    pub port: String,
    /// What it is connected to.
    pub chardev: String,
    /// Where that leads.
    pub to: SerialSpec,
}

fn outlet(chardev: &ChardevArg) -> Option<&OutletArg> {
    match chardev {
        ChardevArg::Outlet(outlet) => Some(outlet),
        ChardevArg::Socket(_) => None,
    }
}

/// The console of these devices, if there is one.
pub(super) fn plan(
    buses: &[SerialBusArg],
    consoles: &[ConsoleArg],
    chardevs: &[ChardevArg],
    taken: &mut HashSet<String>,
    warnings: &mut Vec<String>,
) -> Result<Option<ConsoleSpec>, DeviceError> {
    let chardevs: Vec<&OutletArg> = chardevs.iter().filter_map(outlet).collect();
    for chardev in &chardevs {
        if !consoles.iter().any(|console| console.chardev == chardev.id) {
            warnings.push(format!(
                "the chardev '{}' is not used: name it with -device virtconsole,chardev=",
                chardev.id
            ));
        }
    }
    let (bus, console) = match (buses, consoles) {
        ([], []) => return Ok(None),
        ([bus], [console]) => (bus, console),
        ([], _) => return Err(ConsoleError::NoBus.into()),
        (_, []) => return Err(ConsoleError::NoConsole.into()),
        _ => return Err(ConsoleError::Several.into()),
    };
    let chardev = chardevs.iter().find(|chardev| chardev.id == console.chardev);
    let chardev = chardev.ok_or_else(|| ConsoleError::UnknownChardev {
        id: console.chardev.clone(),
    })?;
    Ok(Some(ConsoleSpec {
        id: name(bus.id.clone(), "serial", taken),
        port: name(console.id.clone(), "console", taken),
        chardev: chardev.id.clone(),
        to: chardev.to.clone().into(),
    }))
}
