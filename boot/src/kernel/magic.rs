//! What a file is that is no kernel: users mix up their files, and "not a kernel" alone does not help them.

/// Offset in the file, the bytes there, and what they say. The first match counts.
const MAGIC: &[(usize, &[u8], &str)] = &[
    (
        0,
        b"\x1f\x8b",
        "a gzip file (an initramfs, or a kernel that has to be unpacked first)",
    ),
    (
        0,
        b"\xfd7zXZ\0",
        "an xz file (an initramfs, or a kernel that has to be unpacked first)",
    ),
    (
        0,
        b"\x28\xb5\x2f\xfd",
        "a zstd file (an initramfs, or a kernel that has to be unpacked first)",
    ),
    (
        0,
        b"\x02\x21\x4c\x18",
        "an lz4 file (an initramfs, or a kernel that has to be unpacked first)",
    ),
    (0, b"BZh", "a bzip2 file"),
    (0, b"070701", "a cpio archive (an initramfs)"),
    (0, b"070702", "a cpio archive (an initramfs)"),
    (0, b"070707", "a cpio archive (an initramfs)"),
    (0, b"\xc7\x71", "a cpio archive (an initramfs)"),
    (0, b"QFI\xfb", "a qcow2 disk image"),
    (0, b"!<arch>\n", "an archive (a Debian package or a library)"),
    (0, b"hsqs", "a squashfs image"),
    (0, b"#!", "a script"),
    (0, b"PK\x03\x04", "a zip file"),
    (0x38, b"ARM\x64", "a kernel for arm64"),
    (0x38, b"RSC\x05", "a kernel for RISC-V"),
    (0, b"MZ", "an EFI program without a Linux boot header"),
    (0x101, b"ustar", "a tar archive"),
    (0x1fe, b"\x55\xaa", "a boot sector (a disk image)"),
];

/// What the file looks like that begins with `head`.
pub(super) fn describe(head: &[u8]) -> &'static str {
    if head.is_empty() {
        return "an empty file";
    }
    let matches =
        |offset: usize, magic: &[u8]| head.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((_, _, name)) = MAGIC.iter().find(|(offset, magic, _)| matches(*offset, magic)) {
        return name;
    }
    let text = |byte: &u8| byte.is_ascii_graphic() || byte.is_ascii_whitespace();
    if head.iter().all(text) {
        "a text file"
    } else {
        "a file of an unknown kind"
    }
}
