//! A kernel that is one by its form.

/// An ELF kernel of one page that only halts: header, one loadable segment at 16 MiB, code.
pub(crate) fn kernel() -> Vec<u8> {
    const START: u64 = 16 << 20;
    let mut image = vec![0; 0x1000];
    image[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    // Executable, x86-64, version 1; entry; program headers; sizes of both headers, and one of the second kind.
    for (at, value) in [
        (0x10, 2_u16),
        (0x12, 62),
        (0x14, 1),
        (0x34, 64),
        (0x36, 56),
        (0x38, 1),
    ] {
        put(at, &value.to_le_bytes());
    }
    for (at, value) in [(0x18, START), (0x20, 64)] {
        put(at, &value.to_le_bytes());
    }
    // Loadable, readable and executable; offset, two addresses, sizes in file and memory, alignment.
    put(0x40, &1_u32.to_le_bytes());
    put(0x44, &5_u32.to_le_bytes());
    for (at, value) in [
        (0x48, 0x1000),
        (0x50, START),
        (0x58, START),
        (0x60, 0x1000),
        (0x68, 0x1000),
        (0x70, 0x1000),
    ] {
        put(at, &u64::to_le_bytes(value));
    }
    image.resize(0x2000, 0xf4);
    image
}
