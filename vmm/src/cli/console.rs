//! The console: `-device virtio-serial-pci -device virtconsole,chardev=`.

use super::properties::Properties;
use super::value::ValueError;

/// One `-device virtio-serial-pci`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SerialBusArg {
    /// `id=`.
    pub id: Option<String>,
}

/// One `-device virtconsole`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleArg {
    /// `id=`.
    pub id: Option<String>,
    /// `chardev=`.
    pub chardev: String,
}

pub(super) fn bus(properties: &Properties) -> Result<SerialBusArg, ValueError> {
    Ok(SerialBusArg {
        id: properties.id("id")?,
    })
}

pub(super) fn console(properties: &Properties) -> Result<ConsoleArg, ValueError> {
    properties.required("chardev")?;
    Ok(ConsoleArg {
        id: properties.id("id")?,
        chardev: properties.id("chardev")?.unwrap_or_default(),
    })
}
