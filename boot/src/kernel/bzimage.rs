//! bzImage: a setup header, real-mode code that is not used here, and a compressed kernel that unpacks itself.
//!
//! Fields and their meaning: `Documentation/arch/x86/boot.rst` of Linux.

use std::fs::File;

use linux_loader::loader::bootparam::setup_header;
use memory::GuestRange;
use memory::layout::KERNEL_START;
use vm_memory::{ByteValued, GuestAddress, GuestMemoryMmap};

use super::{KernelError, Part};

const HEADER_OFFSET: usize = 0x1f1;
const BOOT_FLAG_OFFSET: usize = 0x1fe;
const BOOT_FLAG: &[u8] = b"\x55\xaa";
const MAGIC_OFFSET: usize = 0x202;
const MAGIC: &[u8] = b"HdrS";
/// 2.12 brought `xloadflags`, which says that there is a 64-bit entry point.
const OLDEST_PROTOCOL: u16 = 0x020c;
/// 2.15 brought `kernel_info_offset`, the last field that we know.
const KERNEL_INFO_PROTOCOL: u16 = 0x020f;
const LOADED_HIGH: u8 = 1;
const XLF_KERNEL_64: u16 = 1;
/// Where the 64-bit entry point lies behind the beginning of the protected-mode code.
const ENTRY64_OFFSET: u64 = 0x200;
const SECTOR: u64 = 512;

/// A bzImage whose header was checked.
#[derive(Debug)]
pub(super) struct BzImage {
    header: setup_header,
    /// The protected-mode code.
    code: Part,
    end: u64,
}

pub(super) fn is_bzimage(head: &[u8]) -> bool {
    let at = |offset: usize, bytes: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(bytes));
    at(BOOT_FLAG_OFFSET, BOOT_FLAG) && at(MAGIC_OFFSET, MAGIC)
}

impl BzImage {
    /// Reads the header of a file of `size` bytes that begins with `head`.
    pub(super) fn read(head: &[u8], size: u64) -> Result<BzImage, KernelError> {
        let mut header = setup_header::default();
        let header_end = HEADER_OFFSET + header.as_slice().len();
        let Some(bytes) = head.get(HEADER_OFFSET..header_end) else {
            return Err(KernelError::Truncated {
                needed: u64::try_from(header_end).unwrap_or(u64::MAX),
                size,
            });
        };
        header.as_mut_slice().copy_from_slice(bytes);

        let [minor, major] = header.version.to_le_bytes();
        if header.version < OLDEST_PROTOCOL {
            return Err(KernelError::Protocol { major, minor });
        }
        if header.version < KERNEL_INFO_PROTOCOL {
            header.kernel_info_offset = 0;
        }
        if header.loadflags & LOADED_HIGH == 0 {
            return Err(KernelError::Recognise { found: "a zImage" });
        }
        if header.xloadflags & XLF_KERNEL_64 == 0 {
            return Err(KernelError::FindEntry64);
        }
        // 0 means 4, for the sake of very old kernels.
        let setup_sectors = if header.setup_sects == 0 {
            4
        } else {
            u64::from(header.setup_sects)
        };
        let setup = (setup_sectors + 1) * SECTOR;
        // `syssize` counts paragraphs of 16 bytes. More may follow in the file: a signature.
        let needed = setup + u64::from(header.syssize) * 16;
        if size < needed {
            return Err(KernelError::Truncated { needed, size });
        }
        let code = Part {
            offset: setup,
            len: size - setup,
            start: KERNEL_START,
        };
        let loaded_end = KERNEL_START
            .checked_add(code.len)
            .ok_or(KernelError::Truncated { needed, size })?;
        let end = loaded_end.max(unpacked_end(&header)?);
        Ok(BzImage { header, code, end })
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    pub(super) fn cmdline_limit(&self) -> u64 {
        u64::from(self.header.cmdline_size)
    }

    pub(super) fn initrd_top(&self) -> u64 {
        u64::from(self.header.initrd_addr_max) + 1
    }

    pub(super) fn setup_header(&self) -> setup_header {
        self.header
    }

    pub(super) fn entry(&self) -> u64 {
        KERNEL_START + ENTRY64_OFFSET
    }

    pub(super) fn range(&self) -> GuestRange {
        GuestRange::new(GuestAddress(self.code.start), self.code.len)
    }

    /// Copies the protected-mode code to [`KERNEL_START`].
    pub(super) fn load(&self, file: &mut File, memory: &GuestMemoryMmap<()>) -> Result<(), KernelError> {
        self.code.copy(file, memory)
    }
}

/// Where the kernel ends that the decompressor makes: `init_size` bytes from the preferred address on, or from the
/// load address, aligned, where that is higher. (A kernel with KASLR may choose another place, if there is one.)
fn unpacked_end(header: &setup_header) -> Result<u64, KernelError> {
    let alignment = u64::from(header.kernel_alignment);
    if !alignment.is_power_of_two() {
        return Err(KernelError::Header {
            field: "kernel_alignment",
            value: alignment,
        });
    }
    let start = KERNEL_START.next_multiple_of(alignment).max(header.pref_address);
    start
        .checked_add(u64::from(header.init_size))
        .ok_or(KernelError::Header {
            field: "pref_address",
            value: header.pref_address,
        })
}
