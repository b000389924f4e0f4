use vm_memory::GuestAddress;

use super::*;
use crate::memory_map::MapKind;

fn word(bytes: &[u8], at: u64) -> u32 {
    let at = usize::try_from(at).unwrap();
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

#[test]
fn lists_lie_where_the_start_info_says() {
    let map = [MapEntry {
        start: 0x10_0000,
        end: 0x400_0000,
        kind: MapKind::Ram,
    }];
    let initrd = GuestRange {
        start: GuestAddress(0x300_0000),
        len: 999,
    };
    let bytes = build(Some(initrd), &map);
    assert_eq!(word(&bytes, 0), 0x336e_c578);
    assert_eq!(word(&bytes, 4), 1, "version");
    assert_eq!(word(&bytes, 12), 1, "modules");
    let modules = u64::from(word(&bytes, 16)) - ZERO_PAGE;
    assert_eq!(word(&bytes, modules), 0x300_0000);
    assert_eq!(word(&bytes, modules + 8), 999);
    assert_eq!(u64::from(word(&bytes, 24)), CMDLINE);
    assert_eq!(u64::from(word(&bytes, 32)), ACPI_START);
    assert_eq!(word(&bytes, 48), 1, "map entries");
    let entry = u64::from(word(&bytes, 40)) - ZERO_PAGE;
    assert_eq!(word(&bytes, entry), 0x10_0000);
    assert_eq!(word(&bytes, entry + 8), 0x3f0_0000);
    assert_eq!(word(&bytes, entry + 16), 1);
}

#[test]
fn no_initramfs_is_no_module() {
    let bytes = build(None, &[]);
    assert_eq!(word(&bytes, 12), 0);
    assert_eq!(word(&bytes, 16), 0);
}
