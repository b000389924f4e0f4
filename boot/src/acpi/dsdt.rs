//! DSDT: the devices that cannot be found by asking a bus (ACPI specification 6.5, chapters 5, 6, 19).
//!
//! | path | what |
//! |---|---|
//! | `\_SB.PCI0` | the PCI root, PNP0A08, with its windows |
//! | `\_SB.MBRD` | what nobody else may use: PCI configuration space and the power ports, PNP0C02 |
//! | `\_SB.COM1` | the serial port, PNP0501 |
//! | `\_SB.GED_` | events from the host, ACPI0013 |
//! | `\_SB.PWRB` | the power button, PNP0C0C |
//! | `\_SB.Cxxx` | a CPU each, ACPI0007 |
//! | `\_S5_` | how to power off |

use acpi_tables::Aml;
use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, And, Arg, CreateDWordField, Device, EISAName, Else, Equal, Field,
    FieldAccessType, FieldEntry, FieldLockRule, FieldUpdateRule, IO, If, Interrupt, Local, Memory32Fixed,
    Method, Name, Notify, OpRegion, OpRegionSpace, Or, Package, Path, ResourceTemplate, Return, Store, Uuid,
    ZERO,
};
use memory::GuestRange;
use memory::layout::{
    COM1_GSI, COM1_PORT, ECAM_SIZE, ECAM_START, GED_GSI, PCI32_WINDOW_END, PCI32_WINDOW_START, POWER_PORT,
};
use vm_memory::Address;

use super::{LAST_BUS, table as table_of};
use crate::BootPlatform;
use crate::power;

/// From 2 on, integers have 64 bits.
const REVISION: u8 = 2;
/// Notification 0x80 of a power button: pressed (table 5.161).
const PRESSED: u8 = 0x80;
/// Ports of a 16550.
const COM1_PORTS: u16 = 8;
/// The address and data ports of PCI configuration mechanism #1, which are the host bridge's own.
const PCI_CONFIG_PORT: u16 = 0xcf8;
const PCI_CONFIG_PORTS: u16 = 8;
/// The sleep type of S5, in `_S5_` and in the sleep control register.
const S5_TYPE: u8 = 5;
/// `_STA`: present, enabled, shown, working.
const STATUS_ALL: u8 = 0x0f;
/// A PCI root's UUID for `_OSC` (PCI Firmware Specification 3.3, section 4.5.1).
const PCI_OSC: &str = "33db4d5b-1ff7-401c-9657-7441c03dd766";
/// `_OSC` returns this bit in its first word for a UUID that it does not know (section 6.2.11).
const UNRECOGNISED_UUID: u8 = 1 << 2;

/// The table for `platform`.
pub(super) fn table(platform: &BootPlatform) -> Vec<u8> {
    let mut aml = Vec::new();
    system_bus(platform, &mut aml);
    let sleep_type = Package::new(vec![&S5_TYPE, &ZERO, &ZERO, &ZERO]);
    Name::new(Path::new("_S5_"), &sleep_type).to_aml_bytes(&mut aml);
    table_of(*b"DSDT", REVISION, &aml)
}

/// `Scope (\_SB)` with all devices.
fn system_bus(platform: &BootPlatform, aml: &mut Vec<u8>) {
    let mut devices = Vec::new();
    pci_root(platform.pci64_window, &mut devices);
    motherboard(&mut devices);
    serial_port(&mut devices);
    power_button(&mut devices);
    for index in 0..platform.apic_ids.len() {
        processor(index, index < platform.vcpus, &mut devices);
    }
    aml.extend(acpi_tables::aml::Scope::raw(Path::new("\\_SB_"), devices));
}

/// The host bridge: its one bus, the windows that BARs lie in, and `_OSC`. There is no window of I/O ports,
/// because no device here has any; and no `_PRT`, because devices interrupt by messages only.
fn pci_root(window64: Option<GuestRange>, aml: &mut Vec<u8>) {
    let buses = AddressSpace::<u16>::new_bus_number(0, u16::from(LAST_BUS));
    let low = AddressSpace::<u32>::new_memory(
        AddressSpaceCacheable::NotCacheable,
        true,
        low_word(PCI32_WINDOW_START),
        low_word(PCI32_WINDOW_END - 1),
        None,
    );
    let config_ports = ports(PCI_CONFIG_PORT, PCI_CONFIG_PORTS);
    let high = window64.and_then(|window| {
        let start = window.start.raw_value();
        let last = start.checked_add(window.len.checked_sub(1)?)?;
        Some(AddressSpace::<u64>::new_memory(
            AddressSpaceCacheable::NotCacheable,
            true,
            start,
            last,
            None,
        ))
    });
    let mut windows: Vec<&dyn Aml> = vec![&buses, &config_ports, &low];
    if let Some(high) = &high {
        windows.push(high);
    }
    Device::new(
        Path::new("PCI0"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0A08")),
            &Name::new(Path::new("_CID"), &EISAName::new("PNP0A03")),
            &Name::new(Path::new("_UID"), &ZERO),
            &Name::new(Path::new("_SEG"), &ZERO),
            &Name::new(Path::new("_BBN"), &ZERO),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(windows)),
            &osc(),
        ],
    )
    .to_aml_bytes(aml);
}

/// `_OSC`: the guest gets control of every PCIe feature that it asks for, since no firmware wants any. The words
/// that it passes are returned as they came.
fn osc() -> impl Aml {
    // The objects refer to each other; as bytes they outlive this function.
    let mut aml = Vec::new();
    let status = Path::new("CDW1");
    Method::new(
        Path::new("_OSC"),
        4,
        true,
        vec![
            &If::new(
                &Equal::new(&Arg(0), &Uuid::new(PCI_OSC)),
                vec![&Return::new(&Arg(3))],
            ),
            &Else::new(vec![
                &CreateDWordField::new(&status, &Arg(3), &ZERO),
                &Or::new(&status, &status, &UNRECOGNISED_UUID),
                &Return::new(&Arg(3)),
            ]),
        ],
    )
    .to_aml_bytes(&mut aml);
    Raw(aml)
}

/// Reserves what belongs to no device. Linux uses PCI configuration space in memory only if it is reserved here, in
/// a device of its own and not in a window of the root.
fn motherboard(aml: &mut Vec<u8>) {
    let config_space = Memory32Fixed::new(true, low_word(ECAM_START), low_word(ECAM_SIZE));
    let power_ports = ports(POWER_PORT, power::PORTS);
    Device::new(
        Path::new("MBRD"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0C02")),
            &Name::new(Path::new("_UID"), &ZERO),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![&config_space, &power_ports]),
            ),
        ],
    )
    .to_aml_bytes(aml);
}

/// The serial port. Without this a hardware-reduced Linux gives it no interrupt, and user space waits on it for ever.
fn serial_port(aml: &mut Vec<u8>) {
    let com1 = ports(COM1_PORT, COM1_PORTS);
    Device::new(
        Path::new("COM1"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0501")),
            &Name::new(Path::new("_UID"), &ZERO),
            &Name::new(
                Path::new("_CRS"),
                &ResourceTemplate::new(vec![&com1, &edge(COM1_GSI)]),
            ),
        ],
    )
    .to_aml_bytes(aml);
}

/// The Generic Event Device and the power button that it speaks for.
fn power_button(aml: &mut Vec<u8>) {
    Device::new(
        Path::new("PWRB"),
        vec![&Name::new(Path::new("_HID"), &EISAName::new("PNP0C0C"))],
    )
    .to_aml_bytes(aml);
    let events = Path::new("EVTS");
    let pending = Local(0);
    Device::new(
        Path::new("GED_"),
        vec![
            &Name::new(Path::new("_HID"), &"ACPI0013"),
            &Name::new(Path::new("_UID"), &ZERO),
            &Name::new(Path::new("_CRS"), &ResourceTemplate::new(vec![&edge(GED_GSI)])),
            &OpRegion::new(Path::new("EVTR"), OpRegionSpace::SystemIO, &power::EVENTS, &4u8),
            &Field::new(
                Path::new("EVTR"),
                FieldAccessType::DWord,
                FieldLockRule::NoLock,
                FieldUpdateRule::Preserve,
                vec![FieldEntry::Named(*b"EVTS", 32)],
            ),
            // One read: it clears the register.
            &Method::new(
                Path::new("_EVT"),
                1,
                true,
                vec![
                    &Store::new(&pending, &events),
                    &If::new(
                        &And::new(&ZERO, &pending, &power::POWER_BUTTON),
                        vec![&Notify::new(&Path::new("PWRB"), &PRESSED)],
                    ),
                ],
            ),
        ],
    )
    .to_aml_bytes(aml);
}

/// A CPU, tied to its entry in the MADT by the UID. `_STA` is 0 where there is none.
fn processor(index: usize, present: bool, aml: &mut Vec<u8>) {
    let status = if present { STATUS_ALL } else { 0 };
    Device::new(
        Path::new(&format!("C{index:03X}")),
        vec![
            &Name::new(Path::new("_HID"), &"ACPI0007"),
            &Name::new(Path::new("_UID"), &index),
            &Name::new(Path::new("_STA"), &status),
        ],
    )
    .to_aml_bytes(aml);
}

/// `count` I/O ports from `base` on, which cannot be moved. No device has more than 255.
fn ports(base: u16, count: u16) -> IO {
    IO::new(base, base, 1, u8::try_from(count).unwrap_or(u8::MAX))
}

/// An interrupt input of the IOAPIC: consumed, edge-triggered, active high, not shared.
fn edge(gsi: u32) -> Interrupt {
    Interrupt::new(true, true, false, false, gsi)
}

/// AML that is bytes already.
struct Raw(Vec<u8>);

impl Aml for Raw {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(&self.0);
    }
}

/// An address or a size in the hole below 4 GiB.
fn low_word(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}
