use memory::layout::{HOLE_END, HOLE_START, KERNEL_START};
use proptest::prelude::*;
use vm_memory::GuestAddress;

use super::*;

/// RAM of `size` bytes in pieces of `piece` bytes, around the hole.
fn ram(size: u64, piece: u64) -> Vec<GuestRange> {
    let mut regions = Vec::new();
    let mut done = 0;
    while done < size {
        let (start, room) = if done < HOLE_START {
            (done, HOLE_START - done)
        } else {
            (HOLE_END + done - HOLE_START, u64::MAX)
        };
        let len = piece.min(size - done).min(room);
        regions.push(GuestRange {
            start: GuestAddress(start),
            len,
        });
        done += len;
    }
    regions
}

fn bytes(map: &[MapEntry], kind: MapKind) -> u64 {
    map.iter()
        .filter(|entry| entry.kind == kind)
        .map(MapEntry::len)
        .sum()
}

#[test]
fn small_guest() {
    let map = memory_map(&ram(64 << 20, u64::MAX));
    assert_eq!(
        map,
        [
            MapEntry {
                start: 0,
                end: EBDA_START,
                kind: MapKind::Ram
            },
            MapEntry {
                start: EBDA_START,
                end: ACPI_START,
                kind: MapKind::Reserved
            },
            MapEntry {
                start: ACPI_START,
                end: 1 << 20,
                kind: MapKind::Acpi
            },
            MapEntry {
                start: 1 << 20,
                end: 64 << 20,
                kind: MapKind::Ram
            },
            MapEntry {
                start: ECAM_START,
                end: ECAM_START + ECAM_SIZE,
                kind: MapKind::Reserved
            },
            MapEntry {
                start: KVM_IDENTITY_MAP,
                end: KVM_IDENTITY_MAP + 0x4000,
                kind: MapKind::Reserved
            },
        ]
    );
}

#[test]
fn ram_above_the_hole_is_one_entry() {
    let map = memory_map(&ram(5 << 30, 512 << 20));
    let high: Vec<_> = map.iter().filter(|entry| entry.start >= HOLE_END).collect();
    assert_eq!(
        high,
        [&MapEntry {
            start: HOLE_END,
            end: 6 << 30,
            kind: MapKind::Ram
        }]
    );
    assert_eq!(bytes(&map, MapKind::Ram), (5 << 30) - ((1 << 20) - EBDA_START));
}

proptest! {
    #[test]
    fn all_ram_less_the_named_holes(
        near in prop_oneof![Just(2u64 << 20), Just(HOLE_START), Just(HOLE_END), Just(64u64 << 30)],
        off in -256i64..256,
        piece in prop_oneof![Just(u64::MAX), (1u64..2048).prop_map(|mib| mib << 20)],
    ) {
        let size = near.saturating_add_signed(off * 4096).max(1 << 20);
        let map = memory_map(&ram(size, piece));
        let hole = KERNEL_START - EBDA_START;
        prop_assert_eq!(bytes(&map, MapKind::Ram), size - hole);
        for pair in map.windows(2) {
            prop_assert!(pair[0].start < pair[0].end && pair[0].end <= pair[1].start);
            prop_assert!(pair[0].kind != pair[1].kind || pair[0].end < pair[1].start);
        }
        for entry in map.iter().filter(|entry| entry.kind == MapKind::Ram) {
            prop_assert!(entry.end <= EBDA_START || entry.start >= KERNEL_START);
            prop_assert!(entry.end <= HOLE_START || entry.start >= HOLE_END);
        }
        prop_assert!(map.len() <= 8);
    }
}
