use proptest::prelude::*;

use super::*;

const G: u64 = 1 << 30;

fn placement(backend: usize, offset: u64, start: u64, len: u64) -> Placement {
    Placement {
        backend,
        offset,
        guest: GuestRange::new(GuestAddress(start), len),
    }
}

fn mib(count: u64) -> (ByteSize, PageSize) {
    (ByteSize::mib(count), PageSize::BASE)
}

#[test]
fn ram_goes_around_the_hole() {
    assert_eq!(place(&[mib(512)]), Ok(vec![placement(0, 0, 0, 512 << 20)]));
    assert_eq!(place(&[mib(3072)]), Ok(vec![placement(0, 0, 0, 3 * G)]));
    let across = vec![placement(0, 0, 0, 3 * G), placement(0, 3 * G, HOLE_END, 2 * G)];
    assert_eq!(place(&[mib(5120)]), Ok(across));
    let two = vec![placement(0, 0, 0, 3 * G), placement(1, 0, HOLE_END, G)];
    assert_eq!(place(&[mib(3072), mib(1024)]), Ok(two));
    let second_across = vec![
        placement(0, 0, 0, 2 * G),
        placement(1, 0, 2 * G, G),
        placement(1, G, HOLE_END, G),
    ];
    assert_eq!(place(&[mib(2048), mib(2048)]), Ok(second_across));
}

#[test]
fn refuses_what_ends_or_begins_inside_a_page() {
    assert_eq!(place(&[]), Err(LayoutError::NoBackend));
    assert_eq!(place(&[mib(1), mib(0)]), Err(LayoutError::Empty { backend: 1 }));
    let odd = (ByteSize::from_bytes(3 << 20), PageSize::HUGE_2M);
    let error = place(&[odd]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "memory backend 0 has 3 MiB, which is not a multiple of its page size, 2 MiB"
    );
    let huge = (ByteSize::mib(2), PageSize::HUGE_2M);
    let error = place(&[mib(1), huge]).unwrap_err();
    assert!(error.to_string().contains("0x100000"), "{error}");
    assert!(place(&[mib(2), huge]).is_ok());
}

#[test]
fn refuses_more_than_the_address_space() {
    let all = (ByteSize::from_bytes((1 << 52) - G), PageSize::BASE);
    assert!(place(&[all]).is_ok());
    assert_eq!(place(&[all, mib(1)]), Err(LayoutError::TooLarge));
    let beyond = (ByteSize::from_bytes(u64::MAX - 4095), PageSize::BASE);
    assert_eq!(place(&[beyond]), Err(LayoutError::TooLarge));
}

#[test]
fn the_places_below_one_mib_do_not_overlap() {
    let places = [
        (GDT, 0x100),
        (ZERO_PAGE, 0x1000),
        (PAGE_TABLES, 0x1_0000),
        (CMDLINE, CMDLINE_SIZE),
        (EBDA_START, 0x400),
        (ACPI_START, ACPI_END - ACPI_START),
        (KERNEL_START, 1),
    ];
    for pair in places.windows(2) {
        assert!(pair[0].0 + pair[0].1 <= pair[1].0, "{pair:x?}");
    }
    assert_eq!(HOLE_END - HOLE_START, G);
    assert_eq!(ECAM_START, PCI32_WINDOW_END);
    for address in [
        ECAM_START + ECAM_SIZE,
        IOAPIC,
        LAPIC,
        KVM_IDENTITY_MAP,
        KVM_TSS + 0x3000,
    ] {
        assert!((HOLE_START..=HOLE_END).contains(&address), "{address:#x}");
    }
}

/// A backend of some pages of one size.
fn backend() -> impl Strategy<Value = (ByteSize, PageSize)> {
    prop_oneof![
        (1_u64..3_000_000).prop_map(|pages| (pages, PageSize::BASE)),
        (1_u64..3000).prop_map(|pages| (pages, PageSize::HUGE_2M)),
        (1_u64..6).prop_map(|pages| (pages, PageSize::HUGE_1G)),
    ]
    .prop_map(|(pages, page)| (ByteSize::from_bytes(pages * page.bytes()), page))
}

proptest! {
    /// Nodes of any sizes and pages: what is placed keeps its pages whole on both sides of the hole, and what is refused would
    /// not have.
    #[test]
    fn pages_stay_whole_around_the_hole(sizes in prop::collection::vec(backend(), 1..6)) {
        let mut start = 0;
        let whole = sizes.iter().all(|(size, page)| {
            let begins = page.floor(start) == start;
            let end = start + size.bytes();
            let crosses = start < HOLE_START && end >= HOLE_START;
            start = if crosses { end + (HOLE_END - HOLE_START) } else { end };
            begins
        });
        let placed = place(&sizes);
        prop_assert_eq!(placed.is_ok(), whole, "{:?}", &placed);
        for placement in placed.unwrap_or_default() {
            let page = sizes[placement.backend].1;
            for number in [placement.guest.start.0, placement.guest.len, placement.offset] {
                prop_assert_eq!(page.floor(number), number);
            }
        }
    }

    #[test]
    fn every_byte_has_one_place(pieces in prop::collection::vec(1_u64..5000, 1..6)) {
        let sizes: Vec<_> = pieces.iter().map(|count| mib(*count)).collect();
        let placements = place(&sizes).unwrap();
        let mut next = 0;
        let mut filled = vec![0; sizes.len()];
        for placement in &placements {
            prop_assert!(!placement.guest.is_empty());
            prop_assert!(placement.guest.start.0 >= next);
            prop_assert!(placement.guest.end() <= HOLE_START || placement.guest.start.0 >= HOLE_END);
            prop_assert_eq!(placement.offset, filled[placement.backend]);
            // Host and guest agree modulo 1 GiB in all pieces of a backend when they do in the first.
            let first = placements.iter().find(|other| other.backend == placement.backend).unwrap();
            let shift = |piece: &Placement| piece.guest.start.0.wrapping_sub(piece.offset) % G;
            prop_assert_eq!(shift(placement), shift(first));
            filled[placement.backend] += placement.guest.len;
            next = placement.guest.end();
        }
        let sizes: Vec<_> = sizes.iter().map(|(size, _)| size.bytes()).collect();
        prop_assert_eq!(filled, sizes);
    }
}
