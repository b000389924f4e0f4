//! Small guest RAM over real backends.

use memory::backend::{BackendKind, BackendSpec};
use memory::ram::Ram;
use memory::size::ByteSize;

/// `mib` MiB of anonymous RAM.
pub fn anonymous_ram(mib: u64) -> Ram {
    open_ram(BackendKind::Ram, mib)
}

/// `mib` MiB of RAM of one kind, otherwise as by default.
pub fn open_ram(kind: BackendKind, mib: u64) -> Ram {
    let spec = BackendSpec::new("ram", kind, ByteSize::mib(mib));
    Ram::open(vec![spec], &()).unwrap()
}
