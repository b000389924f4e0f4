//! Guest memory whose pages a test can take away.

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
