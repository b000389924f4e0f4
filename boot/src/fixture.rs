//! Small kernels for the tests: headers as the real ones have them, a few bytes of content.

use std::path::{Path, PathBuf};

use linux_loader::elf::{Elf64_Ehdr, Elf64_Phdr, PT_LOAD, PT_NOTE};
use linux_loader::loader::bootparam::setup_header;
use vm_memory::ByteValued;

/// Bytes of the protected-mode part of [`bzimage`]; its first ones are [`CODE`].
pub(crate) const BZIMAGE_CODE_SIZE: usize = 4096;
pub(crate) const CODE: &[u8] = b"code of a kernel";

/// The header of a kernel that needs 24 MiB: 8 MiB from 16 MiB on.
pub(crate) fn header() -> setup_header {
    setup_header {
        setup_sects: 1,
        syssize: u32::try_from(BZIMAGE_CODE_SIZE / 16).unwrap(),
        boot_flag: 0xaa55,
        jump: 0x6aeb,
        header: 0x5372_6448,
        version: 0x020f,
        loadflags: 1,
        initrd_addr_max: 0x7fff_ffff,
        kernel_alignment: 0x20_0000,
        relocatable_kernel: 1,
        xloadflags: 0x7f,
        cmdline_size: 2047,
        pref_address: 16 << 20,
        init_size: 8 << 20,
        ..Default::default()
    }
}

/// A bzImage with `header`.
pub(crate) fn bzimage(header: setup_header) -> Vec<u8> {
    let mut image = vec![0; 1024];
    image[0x1f1..0x1f1 + header.as_slice().len()].copy_from_slice(header.as_slice());
    image.extend_from_slice(CODE);
    image.resize(1024 + BZIMAGE_CODE_SIZE, 0x90);
    image
}

/// Where the segment of [`elf`] goes.
pub(crate) const ELF_START: u64 = 16 << 20;
/// What it takes in memory, of which 4096 bytes come from the file.
pub(crate) const ELF_SIZE: u64 = 0x3000;

/// The headers of an ELF kernel with one segment, and notes if any: header, two program headers, notes, segment.
pub(crate) struct ElfParts {
    pub(crate) header: Elf64_Ehdr,
    pub(crate) segment: Elf64_Phdr,
    pub(crate) note_header: Elf64_Phdr,
    pub(crate) notes: Vec<u8>,
}

impl ElfParts {
    pub(crate) fn new() -> ElfParts {
        let mut header = Elf64_Ehdr::default();
        header.e_ident[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        header.e_type = 2;
        header.e_machine = 62;
        header.e_entry = ELF_START + 0x100;
        header.e_phoff = 64;
        header.e_phentsize = 56;
        header.e_phnum = 2;
        let segment = Elf64_Phdr {
            p_type: PT_LOAD,
            p_offset: 0x1000,
            p_vaddr: 0xffff_ffff_8100_0000,
            p_paddr: ELF_START,
            p_filesz: 0x1000,
            p_memsz: ELF_SIZE,
            ..Default::default()
        };
        let note_header = Elf64_Phdr {
            p_type: PT_NOTE,
            p_offset: 0x200,
            ..Default::default()
        };
        ElfParts {
            header,
            segment,
            note_header,
            notes: Vec::new(),
        }
    }

    /// Makes it a kernel that can only be started by PVH, at `entry`.
    pub(crate) fn pvh(mut self, entry: u32) -> ElfParts {
        self.header.e_entry = 0xffff_ffff_8100_0000;
        self.notes = note(18, b"Xen\0", &entry.to_le_bytes());
        self
    }

    pub(crate) fn build(mut self) -> Vec<u8> {
        self.note_header.p_filesz = self.notes.len().try_into().unwrap();
        self.build_as_is()
    }

    /// [`ElfParts::build`] with the note header as it stands.
    pub(crate) fn build_as_is(self) -> Vec<u8> {
        let mut image = self.header.as_slice().to_vec();
        image.extend_from_slice(self.segment.as_slice());
        image.extend_from_slice(self.note_header.as_slice());
        image.resize(0x200, 0);
        image.extend_from_slice(&self.notes);
        image.resize(0x1000, 0);
        image.extend_from_slice(CODE);
        image.resize(0x2000, 0x90);
        image
    }
}

/// One ELF note.
pub(crate) fn note(kind: u32, name: &[u8], content: &[u8]) -> Vec<u8> {
    let mut note = Vec::new();
    for word in [
        u32::try_from(name.len()).unwrap(),
        u32::try_from(content.len()).unwrap(),
        kind,
    ] {
        note.extend(word.to_le_bytes());
    }
    for part in [name, content] {
        note.extend_from_slice(part);
        note.resize(note.len().next_multiple_of(4), 0);
    }
    note
}

/// A file with these bytes.
pub(crate) fn file(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}
