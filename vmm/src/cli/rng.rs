//! `-device virtio-rng-pci` and the objects that it takes its bytes from.

use std::path::PathBuf;
use std::time::Duration;

use super::properties::Properties;
use super::properties::devices::RNG_RANDOM;
use super::value::ValueError;

/// What Linux's random number generator is called as a file.
const URANDOM: &str = "/dev/urandom";
/// QEMU's period, in milliseconds.
const PERIOD: u64 = 65536;

/// Where random bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entropy {
    /// getrandom(2).
    Builtin,
    /// A character device or a FIFO.
    File(PathBuf),
}

/// `-object rng-builtin` or `-object rng-random`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RngObject {
    /// `id=`.
    pub id: String,
    /// The type, with `filename=`.
    pub entropy: Entropy,
}

/// `-device virtio-rng-pci`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RngArg {
    /// `id=`.
    pub id: Option<String>,
    /// `rng=`.
    pub rng: Option<String>,
    /// `max-bytes=`; `None` for as many as the guest wants.
    pub max_bytes: Option<u64>,
    /// `period=`.
    pub period: Duration,
}

/// The object that `owner` and its properties describe.
pub(super) fn object(owner: &str, properties: &Properties) -> Result<RngObject, ValueError> {
    properties.required("id")?;
    let entropy = if owner == RNG_RANDOM.owner {
        let name = properties.text("filename").unwrap_or(URANDOM);
        if name.is_empty() {
            return Err(properties.wrong("filename", "a file"));
        }
        Entropy::File(name.into())
    } else {
        Entropy::Builtin
    };
    Ok(RngObject {
        id: properties.id("id")?.unwrap_or_default(),
        entropy,
    })
}

/// The device that its properties describe.
pub(super) fn device(properties: &Properties) -> Result<RngArg, ValueError> {
    // A signed number of bytes in QEMU, whose default is the largest: no limit.
    let largest = i64::MAX.unsigned_abs();
    let max_bytes = properties.number("max-bytes", 1..=largest)?;
    let period = properties.number("period", 1..=u32::MAX.into())?;
    Ok(RngArg {
        id: properties.id("id")?,
        rng: properties.id("rng")?,
        max_bytes: max_bytes.filter(|bytes| *bytes < largest),
        period: Duration::from_millis(period.unwrap_or(PERIOD)),
    })
}
