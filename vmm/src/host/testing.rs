//! Guest memory whose pages a test can take away, and patience with locks.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use memory::backend::{BackendKind, BackendSpec};
use memory::ram::Ram;
use memory::size::ByteSize;
use tempfile::NamedTempFile;

/// Bytes of [`shaky`] memory.
pub(crate) const SIZE: u64 = 4 << 20;

/// Guest memory from address 0 on, in a file that can be cut.
pub(crate) fn shaky() -> (Ram, NamedTempFile) {
    let file = NamedTempFile::new_in("/dev/shm").unwrap();
    let kind = BackendKind::file(file.path());
    let mut spec = BackendSpec::new("mem0", kind, ByteSize::from_bytes(SIZE));
    spec.share = Some(true);
    (Ram::open(vec![spec], &()).unwrap(), file)
}

/// Locks a file that nobody has any more. A test that starts a process meanwhile hands it everybody's open files for a moment,
/// and their locks with them.
pub(crate) fn unlocked<T, E: Debug>(mut lock: impl FnMut() -> Result<T, E>) -> T {
    let start = Instant::now();
    loop {
        match lock() {
            Err(_) if start.elapsed() < Duration::from_secs(10) => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result.unwrap(),
        }
    }
}
