use memory::layout::{GDT, HOLE_END, KERNEL_START, PAGE_TABLES};
use memory::{BackendKind, BackendSpec};
use tempfile::TempDir;

use super::*;
use crate::fixture::{self, CODE, ELF_START, ElfParts, bzimage, header};

const MIB: u64 = 1 << 20;

fn platform() -> BootPlatform {
    BootPlatform {
        apic_ids: vec![0],
        vcpus: 1,
        phys_bits: 40,
        pci64_window: None,
        numa: None,
    }
}

fn range(start: u64, len: u64) -> GuestRange {
    GuestRange {
        start: GuestAddress(start),
        len,
    }
}

fn ram(size: u64) -> GuestMemoryMmap<()> {
    GuestMemoryMmap::from_ranges(&[(GuestAddress(0), usize::try_from(size).unwrap())]).unwrap()
}

fn spec(dir: &TempDir, kernel: &[u8], initrd: Option<usize>) -> BootSpec {
    BootSpec {
        kernel: fixture::file(dir.path(), "kernel", kernel),
        initrd: initrd.map(|size| fixture::file(dir.path(), "initrd", &vec![0x5a; size])),
        cmdline: "console=ttyS0 quiet".into(),
    }
}

fn read(memory: &GuestMemoryMmap<()>, address: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    memory.read_slice(&mut bytes, GuestAddress(address)).unwrap();
    bytes
}

/// The error and its causes in one line, as the program prints them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

fn refusal(spec: &BootSpec, mib: u64) -> String {
    chain(&check(spec, ByteSize::mib(mib)).unwrap_err())
}

#[test]
fn bzimage_with_everything() {
    let dir = TempDir::new().unwrap();
    let spec = spec(&dir, &bzimage(header()), Some(10_000));
    check(&spec, ByteSize::mib(64)).unwrap();
    let memory = ram(64 * MIB);
    let entry = load_into(&memory, &[range(0, 64 * MIB)], &spec, &platform()).unwrap();
    assert_eq!(
        entry,
        Entry {
            rip: KERNEL_START + 0x200,
            rsi: ZERO_PAGE,
            cr3: PAGE_TABLES,
            gdt: GDT,
            gdt_limit: 47,
            mode: EntryMode::Linux64
        }
    );
    assert_eq!(read(&memory, KERNEL_START, CODE.len()), CODE);
    assert_eq!(read(&memory, CMDLINE, 20), b"console=ttyS0 quiet\0");
    assert_eq!(read(&memory, ACPI_START, 8), b"RSD PTR ");
    assert_eq!(read(&memory, RESET_VECTOR, 1), [0xba]);
    let initrd = 64 * MIB - 3 * 4096;
    assert_eq!(
        read(&memory, ZERO_PAGE + 0x218, 4),
        u32::try_from(initrd).unwrap().to_le_bytes()
    );
    assert_eq!(read(&memory, initrd, 10_000), vec![0x5a; 10_000]);
    assert_eq!(
        read(&memory, GDT + 0x10, 8),
        0x00af_9b00_0000_ffff_u64.to_le_bytes()
    );
}

/// Guest RAM as the machine has it, across the hole.
#[test]
fn real_guest_memory() {
    let dir = TempDir::new().unwrap();
    let spec = spec(&dir, &bzimage(header()), Some(10_000));
    let backend = BackendSpec::new("mem0", BackendKind::Ram, ByteSize::gib(5));
    let ram = Ram::open(vec![backend], &()).unwrap();
    check(&spec, ram.size()).unwrap();
    let entry = load(&ram, &spec, &platform()).unwrap();
    assert_eq!(entry.rip, KERNEL_START + 0x200);
    assert_eq!(read(ram.memory(), KERNEL_START, CODE.len()), CODE);
    // An entry of the memory map is the RAM above the hole.
    let map = ZERO_PAGE + 0x2d0;
    let high = (0..8u64).map(|index| read(ram.memory(), map + index * 20, 20));
    let expected = [HOLE_END.to_le_bytes(), (2u64 << 30).to_le_bytes()].concat();
    assert!(
        high.into_iter()
            .any(|entry| entry.starts_with(&expected) && entry[16] == 1)
    );
    // The initramfs: as high as Linux allows, 2 GiB.
    assert_eq!(read(ram.memory(), (2 << 30) - 3 * 4096, 4), [0x5a; 4]);
}

#[test]
fn loading_twice_gives_the_same_memory() {
    let dir = TempDir::new().unwrap();
    let spec = spec(&dir, &ElfParts::new().build(), Some(10_000));
    let memory = ram(64 * MIB);
    let regions = [range(0, 64 * MIB)];
    let first = load_into(&memory, &regions, &spec, &platform()).unwrap();
    let before = read(&memory, 0, 64 << 20);
    memory
        .write_slice(&[0xff; 0x3000], GuestAddress(ELF_START))
        .unwrap();
    memory
        .write_slice(&[0xff; 0x1_0000], GuestAddress(0x500))
        .unwrap();
    assert_eq!(load_into(&memory, &regions, &spec, &platform()).unwrap(), first);
    let after = read(&memory, 0, 64 << 20);
    assert!(before[0x500..0x530] == after[0x500..0x530], "descriptor table");
    assert!(before[0x7000..0x8000] == after[0x7000..0x8000], "zero page");
    assert!(before[0x9000..0xf000] == after[0x9000..0xf000], "page tables");
    assert!(before[0x2_0000..] == after[0x2_0000..], "everything above");
}

#[test]
fn nothing_else_is_written_above_1_mib() {
    const PAGE: u64 = 4096;
    let dir = TempDir::new().unwrap();
    for kernel in [bzimage(header()), ElfParts::new().build()] {
        let spec = spec(&dir, &kernel, Some(10_000));
        let memory = ram(64 * MIB);
        let before = vec![0xe5; 64 << 20];
        memory.write_slice(&before, GuestAddress(0)).unwrap();
        let regions = [range(0, 64 * MIB)];
        load_into(&memory, &regions, &spec, &platform()).unwrap();
        let ranges = ranges_in(&regions, &spec).unwrap();
        for start in (MIB..64 * MIB).step_by(4096) {
            let page = range(start, PAGE);
            let is_written = read(&memory, start, 4096) != before[..4096];
            let is_told = ranges.iter().any(|range| range.intersection(&page).is_some());
            assert_eq!(is_written, is_told, "{start:#x}");
        }
    }
}

#[test]
fn pvh_starts_without_paging() {
    let dir = TempDir::new().unwrap();
    let spec = spec(&dir, &ElfParts::new().pvh(0x0100_0200).build(), None);
    let memory = ram(64 * MIB);
    let entry = load_into(&memory, &[range(0, 64 * MIB)], &spec, &platform()).unwrap();
    assert_eq!((entry.rip, entry.cr3), (0x0100_0200, 0));
    assert_eq!(entry.mode, EntryMode::Pvh { rbx: ZERO_PAGE });
    assert_eq!(read(&memory, ZERO_PAGE, 4), 0x336e_c578_u32.to_le_bytes());
    assert_eq!(
        read(&memory, GDT + 0x10, 8),
        0x00cf_9b00_0000_ffff_u64.to_le_bytes()
    );
}

#[test]
fn an_initramfs_stays_below_what_the_kernel_allows() {
    let dir = TempDir::new().unwrap();
    let kernel = bzimage(linux_loader::loader::bootparam::setup_header {
        initrd_addr_max: u32::try_from(32 * MIB).unwrap() - 1,
        ..header()
    });
    let spec = spec(&dir, &kernel, Some(4096));
    let plan = Plan::new(&spec, 64 * MIB).unwrap();
    assert_eq!(plan.initrd.unwrap().1, 32 * MIB - 4096);
}

#[test]
fn ram_above_the_hole_is_not_for_kernels() {
    assert_eq!(low_end(&[range(0, 64 * MIB)]), 64 * MIB);
    assert_eq!(
        low_end(&[range(0, 2048 * MIB), range(2048 * MIB, 1024 * MIB)]),
        HOLE_START
    );
    assert_eq!(
        low_end(&[range(0, HOLE_START), range(HOLE_END, 1 << 40)]),
        HOLE_START
    );
    assert_eq!(low_end(&[]), 0);
}

#[test]
fn refusals_say_what_is_wrong_with_what() {
    let dir = TempDir::new().unwrap();
    let good = spec(&dir, &bzimage(header()), None);

    let text = refusal(
        &BootSpec {
            kernel: "/nowhere/vmlinuz".into(),
            ..good.clone()
        },
        64,
    );
    assert!(
        text.starts_with("cannot boot kernel '/nowhere/vmlinuz': cannot open it: No such file"),
        "{text}"
    );

    let script = fixture::file(dir.path(), "script", b"#!/bin/sh\n");
    let text = refusal(
        &BootSpec {
            kernel: script,
            ..good.clone()
        },
        64,
    );
    assert!(
        text.ends_with("script': it is a script, not a bzImage or an ELF vmlinux for x86-64"),
        "{text}"
    );

    let text = refusal(&good, 16);
    assert!(
        text.contains("it needs guest RAM up to 24 MiB") && text.contains("the guest has 16 MiB"),
        "{text}"
    );

    let big = fixture::file(dir.path(), "big", &[]);
    std::fs::File::options()
        .write(true)
        .open(&big)
        .unwrap()
        .set_len(80 * MIB)
        .unwrap();
    let text = refusal(
        &BootSpec {
            initrd: Some(big),
            ..good.clone()
        },
        64,
    );
    assert!(
        text.contains("big': it has 80 MiB, but guest RAM has room for 40 MiB"),
        "{text}"
    );

    let text = refusal(
        &BootSpec {
            cmdline: "x".repeat(3000),
            ..good.clone()
        },
        64,
    );
    assert_eq!(
        text,
        "cannot use this kernel command line: it has 3000 bytes, this kernel takes at most 2047"
    );

    let text = refusal(
        &BootSpec {
            initrd: Some(dir.path().into()),
            ..good
        },
        64,
    );
    assert!(text.ends_with("cannot open it: not a regular file"), "{text}");
}

#[test]
fn addresses_that_the_guest_cannot_reach() {
    let dir = TempDir::new().unwrap();
    let spec = spec(&dir, &bzimage(header()), None);
    let memory = ram(64 * MIB);
    let high = [range(0, 64 * MIB), range(HOLE_END, 1 << 40)];
    let error = load_into(&memory, &high, &spec, &platform()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest RAM ends at 0x10100000000, but a physical address of this guest has 40 bits"
    );
    let window = BootPlatform {
        pci64_window: Some(range(1 << 39, 1 << 40)),
        ..platform()
    };
    assert!(matches!(
        load_into(&memory, &high[..1], &spec, &window),
        Err(LoadError::AddressWidth {
            what: "the 64-bit PCI window",
            ..
        })
    ));
    let wide = BootPlatform {
        phys_bits: 64,
        ..platform()
    };
    load_into(&memory, &high[..1], &spec, &wide).unwrap();
}
