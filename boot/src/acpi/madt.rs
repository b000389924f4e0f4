//! MADT: CPUs and interrupt controllers (ACPI specification 6.5, section 5.2.12).
//!
//! `PCAT_COMPAT` is not set: the hardware-reduced machine has no 8259 as far as the guest is concerned, and Linux
//! does not touch one. There is no interrupt source override, since there are no ISA interrupts to override: every
//! device in the DSDT says itself which input of the IOAPIC is its own, and how that input behaves.

use acpi_tables::madt::{EnabledStatus, IoApic, ProcessorLocalApic};
use memory::layout::{IOAPIC, LAPIC};

use super::{MAX_XAPIC, bytes, table as table_of};
use crate::BootPlatform;

const REVISION: u8 = 5;
/// Enabled, and "online capable" (since revision 5): a CPU that is not there but may come.
const ENABLED: u32 = 1;
const ONLINE_CAPABLE: u32 = 2;
const X2APIC: u8 = 9;
const LAPIC_NMI: u8 = 4;
const X2APIC_NMI: u8 = 10;
/// NMIs arrive at the second local interrupt input of every CPU.
const NMI_LINT: u8 = 1;

/// The table for the platform's CPUs; their UIDs are their indices, as in the DSDT.
pub(super) fn table(platform: &BootPlatform) -> Vec<u8> {
    let mut content = Vec::new();
    content.extend(low_word(LAPIC).to_le_bytes());
    content.extend(0u32.to_le_bytes());

    let mut any_x2apic = false;
    let vcpus = platform.vcpus;
    let status = (0..).map(|index: usize| match index < vcpus {
        true => (EnabledStatus::Enabled, ENABLED),
        false => (EnabledStatus::DisabledOnlineCapable, ONLINE_CAPABLE),
    });
    for ((uid, id), (status, flags)) in (0u32..).zip(platform.apic_ids.iter().copied()).zip(status) {
        match (u8::try_from(uid), u8::try_from(id)) {
            (Ok(short_uid), Ok(short_id)) if uid.max(id) <= MAX_XAPIC => {
                content.extend(bytes(&ProcessorLocalApic::new(short_uid, short_id, status)));
            }
            _ => {
                any_x2apic = true;
                content.extend([X2APIC, 16, 0, 0]);
                for word in [id, flags, uid] {
                    content.extend(word.to_le_bytes());
                }
            }
        }
    }
    content.extend(bytes(&IoApic::new(ioapic_id(platform), low_word(IOAPIC), 0)));
    // Flags 0: polarity and trigger as usual for an NMI. UID of all ones: every CPU.
    content.extend([LAPIC_NMI, 6, 0xff, 0, 0, NMI_LINT]);
    if any_x2apic {
        content.extend([X2APIC_NMI, 12, 0, 0, 0xff, 0xff, 0xff, 0xff, NMI_LINT, 0, 0, 0]);
    }
    table_of(*b"APIC", REVISION, &content)
}

/// An id behind those of the CPUs, or else the highest between them; with x2APIC ids it no longer matters.
fn ioapic_id(platform: &BootPlatform) -> u8 {
    let highest = platform.apic_ids.iter().copied().max().unwrap_or(0);
    let behind = highest.saturating_add(1).min(MAX_XAPIC);
    let free = (0..=behind).rev().find(|id| !platform.apic_ids.contains(id));
    free.and_then(|id| u8::try_from(id).ok()).unwrap_or(0)
}

/// An address in the hole below 4 GiB.
fn low_word(address: u64) -> u32 {
    u32::try_from(address).unwrap_or(u32::MAX)
}
