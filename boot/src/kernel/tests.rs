use memory::layout::KERNEL_START;
use proptest::prelude::*;
use tempfile::TempDir;
use vm_memory::{Bytes, GuestAddress};

use super::*;
use crate::fixture::{self, CODE, ELF_SIZE, ELF_START, ElfParts, bzimage, header};

const RAM: u64 = 64 << 20;

fn open(bytes: &[u8]) -> Result<Kernel, KernelError> {
    let dir = TempDir::new().unwrap();
    Kernel::open(&fixture::file(dir.path(), "kernel", bytes))
}

/// Guest RAM that is dirty, as after a reset.
fn dirty_ram() -> GuestMemoryMmap<()> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), usize::try_from(RAM).unwrap())]).unwrap();
    memory
        .write_slice(&[0xee; 0x8000], GuestAddress(ELF_START))
        .unwrap();
    memory
}

fn text(result: Result<Kernel, KernelError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn bzimage_is_understood() {
    let mut kernel = open(&bzimage(header())).unwrap();
    assert_eq!(kernel.end(), 24 << 20);
    assert_eq!(kernel.cmdline_limit(), 2047);
    assert_eq!(kernel.initrd_top(), 0x8000_0000);
    assert_eq!(
        kernel.entry(),
        KernelEntry::Linux64 {
            rip: KERNEL_START + 0x200
        }
    );
    let memory = dirty_ram();
    kernel.load(&memory).unwrap();
    let mut found = [0; CODE.len()];
    memory.read_slice(&mut found, GuestAddress(KERNEL_START)).unwrap();
    assert_eq!(found, CODE);
}

#[test]
fn bzimage_needs_room_to_unpack_itself() {
    let kernel = open(&bzimage(header())).unwrap();
    kernel.check_room(24 << 20).unwrap();
    let error = kernel.check_room((24 << 20) - 4096).unwrap_err().to_string();
    assert!(error.contains("needs guest RAM up to 24 MiB"), "{error}");
}

#[test]
fn bzimage_that_was_not_meant_for_us() {
    for (change, message) in [
        (
            setup_header {
                version: 0x020b,
                ..header()
            },
            "boot protocol 2.11; 2.12 (Linux 3.8) or later",
        ),
        (
            setup_header {
                xloadflags: 0,
                ..header()
            },
            "32-bit kernel",
        ),
        (
            setup_header {
                loadflags: 0,
                ..header()
            },
            "zImage",
        ),
        (
            setup_header {
                kernel_alignment: 0,
                ..header()
            },
            "kernel_alignment is 0x0",
        ),
        (
            setup_header {
                kernel_alignment: 3,
                ..header()
            },
            "kernel_alignment is 0x3",
        ),
        (
            setup_header {
                pref_address: u64::MAX,
                ..header()
            },
            "pref_address is 0xffffffffffffffff",
        ),
        (
            setup_header {
                syssize: u32::MAX,
                ..header()
            },
            "cut off: its headers speak of 68719477744 bytes",
        ),
        (
            setup_header {
                setup_sects: 255,
                ..header()
            },
            "cut off",
        ),
    ] {
        let found = text(open(&bzimage(change)));
        assert!(found.contains(message), "{found:?} should say {message:?}");
    }
}

#[test]
fn every_cut_of_a_bzimage_is_refused() {
    let image = bzimage(header());
    for length in [0, 1, 0x1f1, 0x202, 0x206, 0x26b, 0x26c, 1024, image.len() - 1] {
        let found = text(open(&image[..length]));
        assert!(
            found.contains("cut off") || found.contains("not a bzImage"),
            "{length}: {found}"
        );
    }
}

#[test]
fn elf_is_understood() {
    let mut kernel = open(&ElfParts::new().build()).unwrap();
    assert_eq!(kernel.end(), ELF_START + ELF_SIZE);
    assert_eq!(
        kernel.entry(),
        KernelEntry::Linux64 {
            rip: ELF_START + 0x100
        }
    );
    assert_eq!(kernel.cmdline_limit(), 2047);
    assert!(kernel.setup_header().is_none());

    let memory = dirty_ram();
    kernel.load(&memory).unwrap();
    let mut found = vec![0; usize::try_from(ELF_SIZE).unwrap() + 1];
    memory.read_slice(&mut found, GuestAddress(ELF_START)).unwrap();
    assert!(found.starts_with(CODE));
    assert!(
        found[0x1000..0x3000].iter().all(|byte| *byte == 0),
        "what the file has no bytes for is zero"
    );
    assert_eq!(found[0x3000], 0xee, "nothing behind the segment is touched");
}

#[test]
fn elf_with_both_entry_points_starts_in_64_bit_mode() {
    let mut parts = ElfParts::new().pvh(0x0100_0200);
    parts.header.e_entry = ELF_START + 0x100;
    assert_eq!(
        open(&parts.build()).unwrap().entry(),
        KernelEntry::Linux64 {
            rip: ELF_START + 0x100
        }
    );
}

#[test]
fn elf_with_a_note_only_starts_by_pvh() {
    let mut parts = ElfParts::new().pvh(0x0100_0200);
    let pvh = std::mem::take(&mut parts.notes);
    parts.notes = fixture::note(1, b"GNU\0", b"12345");
    parts.notes.extend(pvh);
    let mut kernel = open(&parts.build()).unwrap();
    assert_eq!(kernel.entry(), KernelEntry::Pvh { rip: 0x0100_0200 });
    kernel.load(&dirty_ram()).unwrap();
}

#[test]
fn elf_without_entry_point() {
    let outside = ElfParts::new().pvh(0x2000_0000).build();
    assert!(matches!(
        open(&outside),
        Err(KernelError::FindEntry {
            entry: 0xffff_ffff_8100_0000
        })
    ));
    let mut no_note = ElfParts::new();
    no_note.header.e_entry = 0;
    assert!(matches!(
        open(&no_note.build()),
        Err(KernelError::FindEntry { entry: 0 })
    ));
}

/// A change that makes an ELF file useless.
type Damage = fn(&mut ElfParts);

#[test]
fn elf_that_is_no_kernel_or_damaged() {
    let cases: &[(Damage, &str)] = &[
        (|elf| elf.header.e_ident[4] = 1, "32-bit ELF"),
        (|elf| elf.header.e_machine = 183, "another kind of processor"),
        (|elf| elf.header.e_ident[5] = 2, "another kind of processor"),
        (|elf| elf.header.e_type = 1, "kernel module"),
        (|elf| elf.header.e_type = 4, "core dump"),
        (
            |elf| elf.header.e_phnum = u16::MAX,
            "number of program headers is 0xffff",
        ),
        (
            |elf| elf.header.e_phentsize = 0,
            "size of a program header is 0x0",
        ),
        (|elf| elf.header.e_phoff = u64::MAX, "headers"),
        (|elf| elf.header.e_phoff = 0x2000, "cut off"),
        (|elf| elf.segment.p_offset = u64::MAX, "cut off"),
        (|elf| elf.segment.p_filesz = u64::MAX, "cut off"),
        (|elf| elf.segment.p_memsz = 0, "file size of a segment"),
        (|elf| elf.segment.p_memsz = u64::MAX, "memory size of a segment"),
        (
            |elf| elf.segment.p_paddr = 0,
            "physical address of a segment is 0x0",
        ),
        (|elf| elf.segment.p_type = 3, "user space"),
        (|elf| elf.note_header.p_filesz = u64::MAX, "size of the notes"),
        (|elf| elf.note_header.p_offset = u64::MAX, ""),
    ];
    for (damage, message) in cases {
        let mut parts = ElfParts::new();
        damage(&mut parts);
        match open(&parts.build_as_is()) {
            Err(error) => assert!(
                error.to_string().contains(message),
                "{error} should say {message:?}"
            ),
            Ok(_) => assert!(message.is_empty(), "should say {message:?}"),
        }
    }
}

#[test]
fn elf_larger_than_ram_is_refused_before_anything_is_written() {
    let mut parts = ElfParts::new();
    parts.segment.p_memsz = 1 << 40;
    let kernel = open(&parts.build()).unwrap();
    assert!(matches!(
        kernel.check_room(RAM),
        Err(KernelError::FindRoom { .. })
    ));
}

#[test]
fn other_files_are_named() {
    let mut arm = vec![0; 0x40];
    arm[0x38..0x3c].copy_from_slice(b"ARM\x64");
    for (bytes, name) in [
        (&b""[..], "an empty file"),
        (b"\x1f\x8b\x08\0\0", "gzip"),
        (b"\x28\xb5\x2f\xfd\0\0", "zstd"),
        (b"0707010000", "cpio archive (an initramfs)"),
        (b"QFI\xfb\0", "qcow2"),
        (b"#!/bin/sh\n", "a script"),
        (b"MZ\0\0", "an EFI program"),
        (b"hello\nworld\n", "a text file"),
        (b"\x01\x02\x03", "unknown kind"),
        (&arm, "arm64"),
    ] {
        let found = text(open(bytes));
        assert!(found.contains(name), "{found:?} should say {name:?}");
    }
}

#[test]
fn only_regular_files() {
    let dir = TempDir::new().unwrap();
    assert!(matches!(Kernel::open(dir.path()), Err(KernelError::Open(_))));
    assert!(matches!(
        Kernel::open(&dir.path().join("none")),
        Err(KernelError::Open(_))
    ));
    assert!(matches!(
        Kernel::open(Path::new("/dev/zero")),
        Err(KernelError::Open(_))
    ));
}

/// Overwrites some bytes: what a damaged or a hostile file looks like.
fn damaged(image: &[u8], changes: &[(usize, u8)], length: usize) -> Vec<u8> {
    let mut image = image.to_vec();
    for (at, byte) in changes {
        let at = at % image.len();
        image[at] = *byte;
    }
    image.truncate(length);
    image
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn damaged_files_never_panic(
        kind in 0usize..3,
        changes in prop::collection::vec((0usize..0x400, any::<u8>()), 0..12),
        length in prop_oneof![4 => Just(usize::MAX), 1 => 0usize..0x2000],
    ) {
        let image = match kind {
            0 => bzimage(header()),
            1 => ElfParts::new().build(),
            _ => ElfParts::new().pvh(0x0100_0200).build(),
        };
        // The interesting bytes of a bzImage begin at 0x1f1.
        let shift = if kind == 0 { 0x1f0 } else { 0 };
        let changes: Vec<_> = changes.into_iter().map(|(at, byte)| (shift + at % 0x250, byte)).collect();
        if let Ok(mut kernel) = open(&damaged(&image, &changes, length))
            && kernel.check_room(RAM).is_ok()
        {
            let _ = kernel.load(&dirty_ram());
        }
    }
}
