//! Daemons that serve devices, as QMP and the monitor show them.

use std::fmt::Write;

use devices::virtio::vhost_user::VhostUserHandle;
use serde_json::{Value, json};

use crate::config::Chardev;

/// A daemon, or the place for one.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// The device that it serves.
    pub device: String,
    /// Where it is.
    pub chardev: Chardev,
    /// How it is.
    pub handle: VhostUserHandle,
}

/// `x-ballast-query-daemons`.
pub(super) fn daemons(daemons: &[Daemon]) -> Value {
    let one = |daemon: &Daemon| {
        json!({
            "chardev": daemon.chardev.id,
            "path": daemon.chardev.path.display().to_string(),
            "device": daemon.device,
            "connected": daemon.handle.is_connected(),
        })
    };
    daemons.iter().map(one).collect()
}

/// `info daemons`.
pub(super) fn text(daemons: &[Daemon]) -> String {
    let mut text = String::new();
    for Daemon {
        device,
        chardev,
        handle,
    } in daemons
    {
        let state = if handle.is_connected() {
            "connected"
        } else {
            "gone"
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{}: {} for {device}: {state}",
            chardev.id,
            chardev.path.display()
        );
    }
    match text.is_empty() {
        true => "no device is served by a daemon\n".to_owned(),
        false => text,
    }
}
