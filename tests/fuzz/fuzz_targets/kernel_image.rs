//! A file that is given as a kernel.
#![no_main]

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use boot::{BootPlatform, BootSpec, EntryMode};
use devices::testing::anonymous_ram;
use libfuzzer_sys::fuzz_target;
use memory::ram::Ram;
use memory::size::ByteSize;
use rustix::fs::{MemfdFlags, memfd_create};

/// Guest RAM in MiB: as little as the kernels of the corpus need.
const RAM_MIB: u64 = 16;

thread_local! {
    static BENCH: (File, Ram) = {
        let file = memfd_create("kernel", MemfdFlags::CLOEXEC).expect("a memfd");
        (File::from(file), anonymous_ram(RAM_MIB))
    };
}

fuzz_target!(|data: &[u8]| BENCH.with(|(file, ram)| boot_it(file, ram, data)));

/// Whatever passes the check can be loaded, as long as the file stays as it is.
fn boot_it(mut file: &File, ram: &Ram, data: &[u8]) {
    file.set_len(0).expect("an empty file");
    file.seek(SeekFrom::Start(0)).expect("the beginning");
    file.write_all(data).expect("the kernel");
    let spec = BootSpec {
        kernel: PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
        initrd: None,
        cmdline: "console=ttyS0".into(),
    };
    let platform = BootPlatform {
        apic_ids: vec![0],
        vcpus: 1,
        phys_bits: 40,
        pci64_window: None,
        numa: None,
    };
    let checked = boot::check(&spec, ByteSize::mib(RAM_MIB));
    let loaded = boot::load(ram, &spec, &platform);
    assert_eq!(checked.is_ok(), loaded.is_ok(), "{checked:?}, but {loaded:?}");
    if let Ok(entry) = loaded {
        assert!(entry.rip < RAM_MIB << 20, "{entry:?}");
        assert_eq!(entry.mode == EntryMode::Linux64, entry.cr3 != 0);
    }
    let ranges: Vec<_> = ram.regions().iter().map(|region| region.guest()).collect();
    let released = ram.release(&ranges);
    assert_eq!(released.discarded, ram.size().bytes());
}
