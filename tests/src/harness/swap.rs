//! A place to swap to, in the memory of a host that has none.

use std::path::Path;
use std::process::Command;

use super::{Error, Result};

const DEVICE: &str = "/dev/zram0";
const SYSFS: &str = "/sys/block/zram0";

/// Swap space in compressed memory; gone when dropped.
#[derive(Debug)]
pub struct Swap(());

impl Swap {
    /// So many bytes of it.
    pub fn on(bytes: u64) -> Result<Swap> {
        put("disksize", &bytes.to_string())?;
        let swap = Swap(());
        busybox("mkswap")?;
        busybox("swapon")?;
        Ok(swap)
    }
}

impl Drop for Swap {
    fn drop(&mut self) {
        if let Err(error) = busybox("swapoff").and_then(|()| put("reset", "1")) {
            eprintln!("cannot take {DEVICE} away: {error}");
        }
    }
}

fn put(file: &str, text: &str) -> Result<()> {
    let path = Path::new(SYSFS).join(file);
    std::fs::write(&path, text).map_err(Error::file("write", &path))
}

fn busybox(applet: &str) -> Result<()> {
    let output = Command::new("/bin/busybox").args([applet, DEVICE]).output();
    let output = output.map_err(|source| Error::Run {
        program: applet.to_owned(),
        source,
    })?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(Error::file("swap to", Path::new(DEVICE))(std::io::Error::other(
                said,
            )))
        }
    }
}
