//! Numbers of bytes as floats, for figures.

use crate::harness::{Error, Result};

/// Bytes in GiB; an error beyond 4 TiB, which no guest here has.
pub fn gibibytes(bytes: u64) -> Result<f64> {
    mebibytes(bytes).map(|size| size / 1024.0)
}

/// Bytes in MiB; an error beyond 4 TiB.
pub fn mebibytes(bytes: u64) -> Result<f64> {
    let kibibytes = u32::try_from(bytes >> 10)
        .map_err(|_| Error::Connection(format!("{bytes} bytes are more than any guest here has")))?;
    Ok(f64::from(kibibytes) / 1024.0)
}
