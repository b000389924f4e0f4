use vm_memory::GuestAddress;

use super::*;
use crate::fixture;
use crate::memory_map::MapKind;

/// Fields are read at the offsets of `zero-page.rst`, not by the struct that wrote them.
fn word(page: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(page[at..at + 4].try_into().unwrap())
}

fn map() -> Vec<MapEntry> {
    vec![
        MapEntry {
            start: 0,
            end: 0x9_fc00,
            kind: MapKind::Ram,
        },
        MapEntry {
            start: 0xe_0000,
            end: 0x10_0000,
            kind: MapKind::Acpi,
        },
    ]
}

fn initrd() -> GuestRange {
    GuestRange {
        start: GuestAddress(0x3000_0000),
        len: 12345,
    }
}

#[test]
fn a_bzimage_keeps_its_header() {
    let header = setup_header {
        setup_data: 0x1234,
        ..fixture::header()
    };
    let page = build(Some(header), Some(initrd()), &map());
    assert_eq!(page.len(), 4096);
    assert_eq!(&page[0x1fe..0x200], b"\x55\xaa");
    assert_eq!(&page[0x202..0x206], b"HdrS");
    assert_eq!(page[0x210], 0xff, "type_of_loader");
    assert_eq!(page[0x211], 1, "loadflags");
    assert_eq!(word(&page, 0x218), 0x3000_0000);
    assert_eq!(word(&page, 0x21c), 12345);
    assert_eq!(u64::from(word(&page, 0x228)), CMDLINE);
    assert_eq!(word(&page, 0x238), 2047, "cmdline_size");
    assert_eq!(word(&page, 0x250), 0, "setup_data");
    assert_eq!(u64::from(word(&page, 0x70)), ACPI_START);
    assert_eq!(page[0x1ef], 0, "sentinel: every field here is meant");
}

#[test]
fn an_elf_file_gets_a_header() {
    let page = build(None, None, &map());
    assert_eq!(&page[0x1fe..0x200], b"\x55\xaa");
    assert_eq!(&page[0x202..0x206], b"HdrS");
    assert_eq!(&page[0x206..0x208], b"\x0c\x02");
    assert_eq!(word(&page, 0x218), 0);
    assert_eq!(word(&page, 0x21c), 0);
    assert_eq!(u64::from(word(&page, 0x228)), CMDLINE);
}

#[test]
fn the_memory_map_has_20_bytes_an_entry() {
    let page = build(None, None, &map());
    assert_eq!(page[0x1e8], 2);
    assert_eq!(word(&page, 0x2d0 + 8), 0x9_fc00);
    assert_eq!(word(&page, 0x2d0 + 16), 1);
    assert_eq!(word(&page, 0x2e4), 0xe_0000);
    assert_eq!(word(&page, 0x2e4 + 8), 0x2_0000);
    assert_eq!(word(&page, 0x2e4 + 16), 3);
    assert!(page[0x2f8..].iter().all(|byte| *byte == 0));
}
