//! The kernel command line.

use memory::layout::CMDLINE_SIZE;
use thiserror::Error;

/// Why a command line was refused.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CmdlineError {
    /// Longer than the kernel reads.
    #[error("it has {length} bytes, this kernel takes at most {limit}")]
    Length {
        /// Bytes of the command line.
        length: usize,
        /// Bytes that the kernel takes, without the final NUL.
        limit: u64,
    },
    /// A byte that would end the line early.
    #[error("it has {name} at byte {offset}, where the kernel would stop reading or misread")]
    Character {
        /// The name of the character.
        name: &'static str,
        /// Its place, from 0.
        offset: usize,
    },
}

/// Refuses a command line that the kernel would not read as the user wrote it.
///
/// `limit` is the kernel's own limit in bytes without the final NUL (`cmdline_size` of the setup header).
pub(crate) fn check(text: &str, limit: u64) -> Result<(), CmdlineError> {
    for (offset, byte) in text.bytes().enumerate() {
        let name = match byte {
            b'\0' => "a NUL",
            b'\n' => "a newline",
            b'\r' => "a carriage return",
            _ => continue,
        };
        return Err(CmdlineError::Character { name, offset });
    }
    let limit = limit.min(CMDLINE_SIZE - 1);
    if u64::try_from(text.len()).is_ok_and(|length| length <= limit) {
        Ok(())
    } else {
        Err(CmdlineError::Length {
            length: text.len(),
            limit,
        })
    }
}

/// The bytes that go into guest RAM.
pub(crate) fn with_nul(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests;
