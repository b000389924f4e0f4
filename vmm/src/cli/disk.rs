//! `-drive` and `-device virtio-blk-pci`.

use std::path::PathBuf;

use super::keyval;
use super::properties::Properties;
use super::properties::devices::DRIVE;
use super::value::ValueError;

/// What an image is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// The bytes of the disk.
    Raw,
    /// QEMU's format.
    Qcow2,
}

impl ImageFormat {
    /// QEMU's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            ImageFormat::Raw => "raw",
            ImageFormat::Qcow2 => "qcow2",
        }
    }
}

/// One `-drive`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveArg {
    /// `id=`.
    pub id: Option<String>,
    /// `file=`.
    pub file: PathBuf,
    /// `format=`.
    pub format: ImageFormat,
    /// `readonly=`.
    pub read_only: bool,
    /// `discard=`: the guest may give space back.
    pub discard: bool,
    /// `if=virtio`: it comes with a device of its own.
    pub with_device: bool,
}

/// One `-device virtio-blk-pci`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlkArg {
    /// `id=`.
    pub id: Option<String>,
    /// `drive=`.
    pub drive: String,
    /// `serial=`.
    pub serial: String,
    /// `num-queues=`.
    pub queues: Option<u16>,
}

/// `-drive file=…,format=…,…`.
pub fn drive(text: &str) -> Result<DriveArg, ValueError> {
    let properties = DRIVE.accept(keyval::split(text, None)?)?;
    let file = properties.required("file")?;
    let format = match properties.text("format") {
        Some("raw") => ImageFormat::Raw,
        Some("qcow2") => ImageFormat::Qcow2,
        None => {
            return Err(ValueError::Conflict(
                "-drive needs 'format=raw' or 'format=qcow2': it is never guessed from what is in the image, which the guest writes",
            ));
        }
        Some(_) => return Err(properties.wrong("format", "raw or qcow2")),
    };
    properties.only("if", &["virtio", "none"])?;
    properties.only("media", &["disk"])?;
    properties.only("cache", &["writeback"])?;
    for error in ["werror", "rerror"] {
        if properties.text(error).is_some_and(|action| action != "report") {
            return Err(ValueError::Conflict(
                "-drive takes only 'werror=report' and 'rerror=report': a request that failed is not kept for another try, so the guest has to hear of it",
            ));
        }
    }
    properties.only("discard", &["unmap", "on", "ignore", "off"])?;
    let keeps = matches!(properties.text("discard"), Some("ignore" | "off"));
    Ok(DriveArg {
        id: properties.id("id")?,
        file: file.into(),
        format,
        read_only: properties.switch("readonly")?.unwrap_or(false),
        discard: !keeps,
        with_device: properties.text("if") != Some("none"),
    })
}

/// The device that its properties describe.
pub(super) fn device(properties: &Properties) -> Result<BlkArg, ValueError> {
    properties.required("drive")?;
    let serial = properties.text("serial").unwrap_or_default();
    if serial.len() > devices::virtio::blk::SERIAL_BYTES {
        return Err(properties.wrong("serial", "at most 20 bytes"));
    }
    let queues = properties.number("num-queues", 1..=devices::virtio::blk::MAX_QUEUES.into())?;
    Ok(BlkArg {
        id: properties.id("id")?,
        drive: properties.id("drive")?.unwrap_or_default(),
        serial: serial.to_owned(),
        queues: queues.and_then(|queues| u16::try_from(queues).ok()),
    })
}

#[cfg(test)]
mod tests;
