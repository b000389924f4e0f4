use memory::layout::{CMDLINE, GDT, ZERO_PAGE};
use proptest::prelude::*;

use super::*;

fn entry(tables: &[u8], address: u64) -> u64 {
    let at = usize::try_from(address - PAGE_TABLES).unwrap();
    u64::from_le_bytes(tables[at..at + 8].try_into().unwrap())
}

/// Walks the tables as a CPU does.
fn translate(tables: &[u8], address: u64) -> u64 {
    const FRAME: u64 = 0x000f_ffff_ffff_f000;
    let mut table = PAGE_TABLES;
    for shift in [39, 30] {
        let found = entry(tables, table + (address >> shift) % 512 * 8);
        assert_eq!(found & 0b11, 0b11, "present and writable");
        table = found & FRAME;
    }
    let page = entry(tables, table + (address >> 21) % 512 * 8);
    assert_eq!(page & 0x83, 0x83, "a large page, present and writable");
    (page & FRAME & !0x1f_ffff) + address % LARGE_PAGE
}

#[test]
fn nothing_else_lies_where_the_tables_are() {
    let end = PAGE_TABLES + u64::try_from(identity_map().len()).unwrap();
    assert_eq!(end, PAGE_TABLES + 6 * TABLE);
    assert!(PAGE_TABLES >= ZERO_PAGE + 4096 && end <= CMDLINE);
    assert!(GDT + u64::from(GDT_LIMIT) < ZERO_PAGE);
}

#[test]
fn beyond_4_gib_nothing_is_mapped() {
    let tables = identity_map();
    assert_eq!(entry(&tables, PAGE_TABLES + 8), 0);
    assert_eq!(entry(&tables, PAGE_TABLES + TABLE + 4 * 8), 0);
}

#[test]
fn descriptors_are_what_linux_wants() {
    let table = descriptor_table(KernelEntry::Linux64 { rip: 0 });
    assert_eq!(table.len(), usize::from(GDT_LIMIT) + 1);
    let descriptor = |selector: u16| {
        let at = usize::from(selector);
        u64::from_le_bytes(table[at..at + 8].try_into().unwrap())
    };
    assert_eq!(descriptor(0), 0);
    assert_eq!(descriptor(CODE_SELECTOR) >> 53 & 1, 1, "64-bit code");
    assert_eq!(descriptor(DATA_SELECTOR) >> 40 & 0xf, 3, "writable data");
    assert_eq!(
        descriptor(TSS_SELECTOR) >> 40 & 0xff,
        0x8b,
        "busy task state segment"
    );
    let pvh = descriptor_table(KernelEntry::Pvh { rip: 0 });
    let code = u64::from_le_bytes(pvh[0x10..0x18].try_into().unwrap());
    assert_eq!(code >> 53 & 0b11, 0b10, "32-bit code");
}

proptest! {
    #[test]
    fn the_first_4_gib_are_mapped_to_themselves(address in 0u64..1 << 32) {
        prop_assert_eq!(translate(&identity_map(), address), address);
    }
}
