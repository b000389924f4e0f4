use memory::GuestRange;
use memory::layout::{COM1_GSI, COM1_PORT, ECAM_SIZE, ECAM_START, GED_GSI, IOAPIC, LAPIC, POWER_PORT};
use proptest::prelude::*;
use vm_memory::GuestAddress;

use super::*;
use crate::GuestNuma;

fn platform(apic_ids: Vec<u32>) -> BootPlatform {
    let pci64_window = Some(GuestRange {
        start: GuestAddress(1 << 40),
        len: 1 << 36,
    });
    BootPlatform {
        vcpus: apic_ids.len(),
        apic_ids,
        phys_bits: 46,
        pci64_window,
        numa: None,
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn long(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The table at a guest address, as a guest would find it: right length, right checksum.
fn table_at(area: &[u8], address: u64) -> &[u8] {
    let start = usize::try_from(address - ACPI_START).unwrap();
    let length = usize::try_from(word(area, start + 4)).unwrap();
    let table = &area[start..start + length];
    assert_eq!(
        sum(table),
        0,
        "checksum of {:?}",
        String::from_utf8_lossy(&table[..4])
    );
    table
}

/// Follows RSDP → XSDT → tables.
fn listed(area: &[u8]) -> Vec<&[u8]> {
    assert_eq!(&area[..8], b"RSD PTR ");
    assert_eq!(sum(&area[..20]), 0);
    assert_eq!(sum(&area[..36]), 0);
    let xsdt = table_at(area, long(area, 24));
    assert_eq!(&xsdt[..4], b"XSDT");
    (36..xsdt.len())
        .step_by(8)
        .map(|at| table_at(area, long(xsdt, at)))
        .collect()
}

fn find<'a>(area: &'a [u8], signature: &[u8; 4]) -> &'a [u8] {
    listed(area)
        .into_iter()
        .find(|table| table.starts_with(signature))
        .unwrap()
}

fn dsdt(area: &[u8]) -> &[u8] {
    table_at(area, long(find(area, b"FACP"), 140))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Type and bytes of each entry in the MADT.
fn madt_entries(area: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let madt = find(area, b"APIC");
    let mut entries = Vec::new();
    let mut at = 44;
    while at < madt.len() {
        let length = usize::from(madt[at + 1]);
        entries.push((madt[at], madt[at..at + length].to_vec()));
        at += length;
    }
    assert_eq!(at, madt.len());
    entries
}

#[test]
fn all_tables_are_found_and_sum_to_zero() {
    let area = build(&platform(vec![0, 1, 2, 3])).unwrap();
    let names: Vec<_> = listed(&area).iter().map(|table| table[..4].to_vec()).collect();
    assert_eq!(names, [b"FACP", b"APIC", b"MCFG"]);
    assert!(dsdt(&area).starts_with(b"DSDT"));
}

#[test]
fn fadt_describes_a_reduced_machine() {
    let area = build(&platform(vec![0])).unwrap();
    let fadt = find(&area, b"FACP");
    assert_eq!(fadt.len(), 276);
    assert_eq!(word(fadt, 112) & 1 << 20, 1 << 20, "hardware-reduced");
    assert_eq!(word(fadt, 112) & 1 << 10, 1 << 10, "reset register");
    let boot_flags = u16::from_le_bytes([fadt[109], fadt[110]]);
    assert_eq!(
        boot_flags, 0b11_0100,
        "no VGA, no ASPM, no RTC; no keyboard controller, MSI allowed"
    );
    for (at, port) in [(116, 2), (244, 0), (256, 1)] {
        assert_eq!(fadt[at..at + 4], [1, 8, 0, 1], "one byte of I/O space");
        assert_eq!(long(fadt, at + 4), u64::from(POWER_PORT) + port);
    }
    assert_eq!(fadt[128], 1, "reset value");
}

#[test]
fn mcfg_tells_of_the_only_bus() {
    let area = build(&platform(vec![0])).unwrap();
    let mcfg = find(&area, b"MCFG");
    assert_eq!(long(mcfg, 44), ECAM_START);
    assert_eq!(mcfg[52..56], [0, 0, 0, 0]);
    assert_eq!(ECAM_SIZE, 256 << 20);
}

#[test]
fn madt_has_every_cpu_and_one_ioapic() {
    let area = build(&platform(vec![0, 2, 4, 6])).unwrap();
    let madt = find(&area, b"APIC");
    assert_eq!(u64::from(word(madt, 36)), LAPIC);
    assert_eq!(word(madt, 40), 0, "no 8259 for the guest");
    let entries = madt_entries(&area);
    let cpus: Vec<_> = entries
        .iter()
        .filter(|(kind, _)| *kind == 0)
        .map(|(_, bytes)| (bytes[2], bytes[3]))
        .collect();
    assert_eq!(cpus, [(0, 0), (1, 2), (2, 4), (3, 6)]);
    let ioapics: Vec<_> = entries.iter().filter(|(kind, _)| *kind == 1).collect();
    assert_eq!(ioapics.len(), 1);
    assert_eq!(ioapics[0].1[2], 7);
    assert_eq!(u64::from(word(&ioapics[0].1, 4)), IOAPIC);
    assert!(
        entries.contains(&(4, vec![4, 6, 0xff, 0, 0, 1])),
        "NMI at LINT1 of all CPUs"
    );
    assert_eq!(entries.len(), 6, "no interrupt source override");
}

#[test]
fn high_apic_ids_get_x2apic_entries() {
    let area = build(&platform(vec![0, 254, 255, 300])).unwrap();
    let entries = madt_entries(&area);
    let kinds: Vec<_> = entries.iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, [0, 0, 9, 9, 1, 4, 10]);
    assert_eq!(entries[1].1[3], 254);
    assert_eq!((word(&entries[2].1, 4), word(&entries[2].1, 12)), (255, 2));
    assert_eq!((word(&entries[3].1, 4), word(&entries[3].1, 12)), (300, 3));
}

/// Flag 1: enabled. Flag 2: not there, but may come.
#[test]
fn places_without_a_vcpu_are_told_as_cpus_that_may_come() {
    for (ids, id_at, flags_at) in [([0, 1, 4, 5], 3, 4), ([256, 257, 260, 261], 4, 8)] {
        let mut platform = platform(ids.into());
        platform.vcpus = 3;
        let area = build(&platform).unwrap();
        let cpus: Vec<_> = madt_entries(&area)
            .iter()
            .take(4)
            .map(|(_, entry)| (u32::from_le_bytes([entry[id_at], 0, 0, 0]), word(entry, flags_at)))
            .collect();
        assert_eq!(
            cpus,
            [0, 1, 2, 3].map(|n| (ids[n] & 0xff, if n < 3 { 1 } else { 2 }))
        );
        // _STA as a byte, and as the constant zero (sections 20.2.3 and 20.2.5.1).
        let status = |cpu: &[u8], value: &[u8]| {
            let aml = [b"[\x82".as_slice(), cpu].concat();
            let dsdt = dsdt(&area);
            let start = dsdt
                .windows(4)
                .position(|window| window == cpu)
                .unwrap_or_else(|| panic!("{aml:?}"));
            contains(&dsdt[start..start + 40], &[b"_STA", value].concat())
        };
        assert!(status(b"C002", &[0x0a, 0x0f]));
        assert!(status(b"C003", &[0]));
    }
}

#[test]
fn the_ioapic_has_an_id_of_its_own() {
    let behind: Vec<u32> = (0..254).collect();
    let between: Vec<u32> = (0..127).chain(128..255).collect();
    for (ids, expected) in [(behind, 254), (between, 127)] {
        let entries = madt_entries(&build(&platform(ids)).unwrap());
        let ioapic = entries.iter().find(|(kind, _)| *kind == 1).unwrap();
        assert_eq!(ioapic.1[2], expected);
    }
}

#[test]
fn dsdt_has_the_devices() {
    let area = build(&platform(vec![0, 1])).unwrap();
    let dsdt = dsdt(&area);
    for name in [
        b"PCI0", b"MBRD", b"COM1", b"GED_", b"PWRB", b"C000", b"C001", b"_S5_", b"_EVT", b"_OSC",
    ] {
        assert!(contains(dsdt, name), "{}", String::from_utf8_lossy(name));
    }
    assert!(!contains(dsdt, b"C002"));

    // The small descriptor of I/O ports: 16-bit decode, minimum, maximum, alignment, length (section 6.4.2.5).
    let [low, high] = COM1_PORT.to_le_bytes();
    assert!(contains(dsdt, &[0x47, 1, low, high, low, high, 1, 8]));
    // The extended interrupt descriptor: consumer and edge, active high, exclusive (section 6.4.3.6).
    for gsi in [COM1_GSI, GED_GSI] {
        let [byte, ..] = gsi.to_le_bytes();
        assert!(
            contains(dsdt, &[0x89, 6, 0, 0b0011, 1, byte, 0, 0, 0]),
            "GSI {gsi}"
        );
    }
    // The fixed memory descriptor of PCI configuration space (section 6.4.3.4).
    let mut ecam = vec![0x86, 9, 0, 1];
    ecam.extend(u32::try_from(ECAM_START).unwrap().to_le_bytes());
    ecam.extend(u32::try_from(ECAM_SIZE).unwrap().to_le_bytes());
    assert!(contains(dsdt, &ecam));
}

#[test]
fn the_64_bit_window_is_there_only_when_it_is() {
    let mut platform = platform(vec![0]);
    let window = [
        (1u64 << 40).to_le_bytes(),
        ((1u64 << 40) + (1 << 36) - 1).to_le_bytes(),
    ]
    .concat();
    assert!(contains(dsdt(&build(&platform).unwrap()), &window));
    platform.pci64_window = None;
    assert!(!contains(dsdt(&build(&platform).unwrap()), &window));
    platform.pci64_window = Some(GuestRange {
        start: GuestAddress(1 << 40),
        len: 0,
    });
    assert!(!contains(dsdt(&build(&platform).unwrap()), &[0x8a, 0x2b, 0]));
}

#[test]
fn too_many_cpus() {
    let many = platform((0..5000).collect());
    assert_eq!(build(&many), Err(AcpiError::NameCpus { count: 5000 }));
    let full = build(&platform((0..4096).collect()));
    assert!(
        matches!(full, Err(AcpiError::Place { size }) if size > ROOM),
        "{:?}",
        full.map(|area| area.len())
    );
}

fn range(start: u64, len: u64) -> GuestRange {
    GuestRange {
        start: GuestAddress(start),
        len,
    }
}

/// Linux numbers nodes in the order of their first CPU, then of their memory.
#[test]
fn nodes_are_met_in_the_order_of_their_numbers() {
    let mut platform = platform(vec![0, 1, 2]);
    platform.numa = Some(GuestNuma {
        cpus: vec![3, 1, 3],
        memory: vec![
            (range(0, 1 << 30), 0),
            (range(1 << 32, 1 << 30), 0),
            (range(5 << 30, 1 << 30), 2),
            (range(6 << 30, 1 << 30), 4),
        ],
        distances: vec![vec![10; 5]; 5],
    });
    let area = build(&platform).unwrap();
    let srat = find(&area, b"SRAT");
    let cpus: Vec<_> = srat[48..]
        .chunks(16)
        .take(5)
        .map(|entry| (entry[2], entry[3]))
        .collect();
    assert_eq!(cpus, [(0, 255), (1, 1), (2, 255), (3, 0), (3, 2)]);
    assert_eq!(srat[48 + 5 * 16], 1, "memory comes next");
}

#[test]
fn nodes_have_their_cpus_memory_and_distances() {
    let mut platform = platform(vec![0, 1, 300]);
    assert!(
        listed(&build(&platform).unwrap()).len() == 3,
        "no nodes, no tables"
    );
    platform.numa = Some(GuestNuma {
        cpus: vec![0, 0x0201_0005, 0x0301_0000],
        memory: vec![
            (range(0, 0xC000_0000), 0),
            (range(1 << 32, 1 << 30), 0),
            (range(5 << 30, 1 << 20), 0x0201_0005),
        ],
        distances: vec![vec![10, 21, 255], vec![20, 10, 31], vec![255, 31, 10]],
    });
    let area = build(&platform).unwrap();
    let srat = find(&area, b"SRAT");
    assert_eq!(
        (srat[8], word(srat, 36), srat.len()),
        (3, 1, 48 + 16 + 16 + 24 + 3 * 40)
    );
    // Local APIC 1, whose domain is in two pieces; then the x2APIC.
    assert_eq!(srat[64..80], [0, 16, 5, 1, 1, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0]);
    assert_eq!((srat[80], srat[81]), (2, 24));
    assert_eq!(
        (word(srat, 84), word(srat, 88), word(srat, 92)),
        (0x0301_0000, 300, 1)
    );
    let memory = |at: usize| {
        (
            word(srat, at + 2),
            long(srat, at + 8),
            long(srat, at + 16),
            word(srat, at + 28),
        )
    };
    assert_eq!((srat[104], srat[105]), (1, 40));
    assert_eq!(memory(104), (0, 0, 0xC000_0000, 1));
    assert_eq!(memory(144), (0, 1 << 32, 1 << 30, 1));
    assert_eq!(memory(184), (0x0201_0005, 5 << 30, 1 << 20, 1));
    let slit = find(&area, b"SLIT");
    assert_eq!((slit[8], long(slit, 36)), (1, 3));
    assert_eq!(slit[44..], [10, 21, 255, 20, 10, 31, 255, 31, 10]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn tables_are_sound_for_any_cpus(ids in prop::collection::btree_set(0u32..4096, 1..256)) {
        let count = ids.len();
        let area = build(&platform(ids.into_iter().collect())).unwrap();
        prop_assert_eq!(listed(&area).len(), 3);
        prop_assert!(dsdt(&area).starts_with(b"DSDT"));
        let cpus = madt_entries(&area).into_iter().filter(|(kind, _)| matches!(kind, 0 | 9)).count();
        prop_assert_eq!(cpus, count);
        prop_assert!(u64::try_from(area.len()).unwrap() <= ROOM);
    }
}
