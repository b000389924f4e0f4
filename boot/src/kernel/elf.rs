//! ELF: `vmlinux` as the kernel's build leaves it, and kernels that are started by PVH.
//!
//! The headers are read once: what is checked before there is any memory is what is copied later. (linux-loader's
//! loader reads them again, trusts some numbers, and refuses files for others that we have no use for.)

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use linux_loader::elf::{
    EI_CLASS, EI_DATA, ELFCLASS64, ELFDATA2LSB, Elf64_Ehdr, Elf64_Phdr, PT_INTERP, PT_LOAD, PT_NOTE,
};
use memory::GuestRange;
use memory::layout::KERNEL_START;
use vm_memory::{ByteValued, Bytes, GuestAddress, GuestMemoryMmap};

use super::{KernelEntry, KernelError, Part};

/// `COMMAND_LINE_SIZE` of x86 less the NUL (`arch/x86/include/asm/setup.h`): ELF files have no header that says it.
pub(super) const CMDLINE_LIMIT: u64 = 2047;
/// `initrd_addr_max` as x86-64 bzImages have it, plus one (`arch/x86/boot/header.S`).
pub(super) const INITRD_TOP: u64 = 0x8000_0000;

const MAGIC: &[u8] = b"\x7fELF";
const EM_X86_64: u16 = 62;
const ET_REL: u16 = 1;
const ET_CORE: u16 = 4;
/// A vmlinux has five program headers or so; the limit keeps a damaged file from costing time.
const MAX_HEADERS: u16 = 64;
/// A vmlinux has less than 1 KiB of notes; the same reason.
const MAX_NOTES: u64 = 64 << 10;
/// The note that holds a 32-bit entry point (`xen/interface/elfnote.h`, `XEN_ELFNOTE_PHYS32_ENTRY`).
const PVH_NOTE: u32 = 18;
const PVH_NOTE_NAME: &[u8] = b"Xen\0";

/// One part of the kernel in guest RAM.
#[derive(Clone, Copy, Debug)]
struct Segment {
    part: Part,
    /// The end of the segment: what is left behind the bytes from the file is zero.
    end: u64,
}

impl Segment {
    /// The end of the bytes that come from the file.
    fn file_end(&self) -> u64 {
        self.part.start + self.part.len
    }

    fn contains(&self, address: u64) -> bool {
        (self.part.start..self.file_end()).contains(&address)
    }
}

/// An ELF file whose headers were checked.
#[derive(Debug)]
pub(super) struct Elf {
    segments: Vec<Segment>,
    entry: KernelEntry,
}

pub(super) fn is_elf(head: &[u8]) -> bool {
    head.starts_with(MAGIC)
}

impl Elf {
    /// Reads the headers of a file of `size` bytes that begins with ELF's magic number.
    pub(super) fn read(file: &mut File, size: u64) -> Result<Elf, KernelError> {
        let mut header = Elf64_Ehdr::default();
        read_at(file, size, 0, header.as_mut_slice())?;
        check_header(&header)?;

        let mut segments = Vec::new();
        let mut pvh_entry = None;
        let mut program_header = Elf64_Phdr::default();
        let step = u64::from(header.e_phentsize);
        for index in 0..u64::from(header.e_phnum) {
            let offset = header.e_phoff.checked_add(index * step);
            let offset = offset.ok_or(KernelError::Header {
                field: "program header offset",
                value: header.e_phoff,
            })?;
            read_at(file, size, offset, program_header.as_mut_slice())?;
            match program_header.p_type {
                PT_LOAD => segments.push(segment(&program_header, size)?),
                PT_NOTE => pvh_entry = pvh_entry.or(read_notes(file, size, &program_header)?),
                PT_INTERP => {
                    return Err(KernelError::Recognise {
                        found: "a program for Linux's user space",
                    });
                }
                _ => {}
            }
        }
        let entry = choose_entry(header.e_entry, pvh_entry, &segments)?;
        Ok(Elf { segments, entry })
    }

    pub(super) fn end(&self) -> u64 {
        self.segments.iter().map(|segment| segment.end).max().unwrap_or(0)
    }

    pub(super) fn entry(&self) -> KernelEntry {
        self.entry
    }

    pub(super) fn ranges(&self) -> Vec<GuestRange> {
        let segments = self.segments.iter();
        segments
            .map(|segment| GuestRange::between(segment.part.start, segment.end))
            .collect()
    }

    /// Copies the segments to their physical addresses and clears the parts that the file has no bytes for, which
    /// matters when RAM holds what an earlier run of the machine left.
    pub(super) fn load(&self, file: &mut File, memory: &GuestMemoryMmap<()>) -> Result<(), KernelError> {
        for segment in &self.segments {
            clear(memory, segment.file_end(), segment.end)?;
        }
        for segment in &self.segments {
            segment.part.copy(file, memory)?;
        }
        Ok(())
    }
}

fn check_header(header: &Elf64_Ehdr) -> Result<(), KernelError> {
    let found = if header.e_ident[EI_CLASS] != ELFCLASS64 {
        "a 32-bit ELF file"
    } else if header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_machine != EM_X86_64 {
        "an ELF file for another kind of processor"
    } else if header.e_type == ET_REL {
        "an object file or a kernel module"
    } else if header.e_type == ET_CORE {
        "a core dump"
    } else if usize::from(header.e_phentsize) != size_of::<Elf64_Phdr>() {
        return Err(KernelError::Header {
            field: "the size of a program header",
            value: header.e_phentsize.into(),
        });
    } else if header.e_phnum > MAX_HEADERS {
        return Err(KernelError::Header {
            field: "the number of program headers",
            value: header.e_phnum.into(),
        });
    } else {
        return Ok(());
    };
    Err(KernelError::Recognise { found })
}

/// The place of a `PT_LOAD` header's bytes in guest RAM.
fn segment(header: &Elf64_Phdr, size: u64) -> Result<Segment, KernelError> {
    let start = header.p_paddr;
    let needed = header.p_offset.saturating_add(header.p_filesz);
    if needed > size {
        return Err(KernelError::Truncated { needed, size });
    }
    if header.p_filesz > header.p_memsz {
        return Err(KernelError::Header {
            field: "the file size of a segment",
            value: header.p_filesz,
        });
    }
    if start < KERNEL_START {
        return Err(KernelError::Header {
            field: "the physical address of a segment",
            value: start,
        });
    }
    match start.checked_add(header.p_memsz) {
        Some(end) => Ok(Segment {
            part: Part {
                offset: header.p_offset,
                len: header.p_filesz,
                start,
            },
            end,
        }),
        None => Err(KernelError::Header {
            field: "the memory size of a segment",
            value: header.p_memsz,
        }),
    }
}

/// The 64-bit entry point where `e_entry` is a physical address, as in a vmlinux; else the PVH one.
fn choose_entry(entry: u64, pvh: Option<u64>, segments: &[Segment]) -> Result<KernelEntry, KernelError> {
    let loaded = |address: &u64| segments.iter().any(|segment| segment.contains(*address));
    if loaded(&entry) {
        return Ok(KernelEntry::Linux64 { rip: entry });
    }
    match pvh.filter(loaded) {
        Some(rip) => Ok(KernelEntry::Pvh { rip }),
        None => Err(KernelError::FindEntry { entry }),
    }
}

/// The PVH entry point among the notes of one `PT_NOTE` header.
fn read_notes(file: &mut File, size: u64, header: &Elf64_Phdr) -> Result<Option<u64>, KernelError> {
    if header.p_filesz > MAX_NOTES {
        return Err(KernelError::Header {
            field: "the size of the notes",
            value: header.p_filesz,
        });
    }
    let mut notes = vec![0; usize::try_from(header.p_filesz).unwrap_or(0)];
    read_at(file, size, header.p_offset, &mut notes)?;
    Ok(pvh_entry(&notes))
}

/// Walks notes: three words (size of the name, size of the content, type), name and content padded to 4 bytes.
fn pvh_entry(mut notes: &[u8]) -> Option<u64> {
    loop {
        let (head, rest) = notes.split_first_chunk::<12>()?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        let name_size = usize::try_from(word(0)).ok()?;
        let content_size = usize::try_from(word(4)).ok()?;
        let name = rest.get(..name_size)?;
        let rest = rest.get(name_size.checked_next_multiple_of(4)?..)?;
        let content = rest.get(..content_size)?;
        if word(8) == PVH_NOTE && name == PVH_NOTE_NAME {
            // A note of 8 bytes holds the same address: it is below 4 GiB.
            return content
                .first_chunk::<4>()
                .map(|bytes| u32::from_le_bytes(*bytes).into());
        }
        notes = rest.get(content_size.checked_next_multiple_of(4)?..)?;
    }
}

/// Reads `buffer` from `offset`; a file that ends before is cut off.
fn read_at(file: &mut File, size: u64, offset: u64, buffer: &mut [u8]) -> Result<(), KernelError> {
    let length = u64::try_from(buffer.len()).unwrap_or(u64::MAX);
    let needed = offset.saturating_add(length);
    if needed > size {
        return Err(KernelError::Truncated { needed, size });
    }
    file.seek(SeekFrom::Start(offset)).map_err(KernelError::Read)?;
    match file.read_exact(buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(KernelError::Truncated { needed, size })
        }
        result => result.map_err(KernelError::Read),
    }
}

/// Zeroes guest RAM.
fn clear(memory: &GuestMemoryMmap<()>, start: u64, end: u64) -> Result<(), KernelError> {
    const ZEROES: [u8; 4096] = [0; 4096];
    let mut address = start;
    while address < end {
        let left = usize::try_from(end - address)
            .unwrap_or(usize::MAX)
            .min(ZEROES.len());
        let zeroes = ZEROES.get(..left).unwrap_or(&ZEROES);
        memory
            .write_slice(zeroes, GuestAddress(address))
            .map_err(|source| KernelError::Clear { address, source })?;
        address = address.saturating_add(4096);
    }
    Ok(())
}
