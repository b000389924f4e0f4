//! What the processor says of itself to the guest: what KVM can do, corrected for this guest's topology.
//!
//! One package with as many single-threaded cores as there are vCPUs; APIC ids are vCPU indices, as in ACPI's MADT.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

/// Leaf 1, ECX: the deadline mode of the APIC timer.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1, ECX: running under a hypervisor; without it Linux does not look for kvmclock.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: the package has more than one logical processor.
const HTT: u32 = 1 << 28;
/// Level type "core" of leaves 0xB and 0x1F, ECX bits 15:8; "thread" is 1.
const LEVEL_CORE: u32 = 2 << 8;
const LEVEL_THREAD: u32 = 1 << 8;

/// Leaf 0x80000001, ECX: several cores, none with threads.
const CMP_LEGACY: u32 = 1 << 1;
/// Leaf 0, EBX: the first letters of AuthenticAMD and HygonGenuine.
const AMD_VENDORS: [u32; 2] = [u32::from_le_bytes(*b"Auth"), u32::from_le_bytes(*b"Hygo")];

/// What the topology leaves depend on besides the guest.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// KVM emulates the deadline mode of the APIC timer.
    deadline: bool,
    /// The processor is one of AMD's.
    amd: bool,
}

/// The number of bits in which `count` APIC ids fit.
fn id_bits(count: u32) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

/// The entries that vCPU `index` of `count` gets.
pub fn for_vcpu(kvm: &Kvm, index: u8, count: u8) -> Result<CpuId, kvm_ioctls::Error> {
    let mut cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    let amd = cpuid
        .as_slice()
        .iter()
        .any(|entry| entry.function == 0 && AMD_VENDORS.contains(&entry.ebx));
    let host = Host {
        deadline: kvm.check_extension(Cap::TscDeadlineTimer),
        amd,
    };
    for entry in cpuid.as_mut_slice() {
        adjust(entry, u32::from(index), u32::from(count), host);
    }
    Ok(cpuid)
}

/// Bits of a guest-physical address (leaf 0x80000008, EAX bits 7:0), 36 where the leaf is missing.
pub fn physical_bits(kvm: &Kvm) -> Result<u8, kvm_ioctls::Error> {
    let cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    let leaf = cpuid
        .as_slice()
        .iter()
        .find(|entry| entry.function == 0x8000_0008);
    Ok(leaf.map_or(36, |entry| entry.eax.to_le_bytes()[0]))
}

fn adjust(entry: &mut kvm_cpuid_entry2, apic_id: u32, count: u32, host: Host) {
    match entry.function {
        0x1 => {
            // EBX: APIC id, logical processors in the package, CLFLUSH line size in units of 8 bytes.
            entry.ebx = (entry.ebx & 0x0000_ffff) | (count.min(255) << 16) | (apic_id << 24);
            entry.ecx |= HYPERVISOR | if host.deadline { TSC_DEADLINE } else { 0 };
            entry.edx = if count > 1 {
                entry.edx | HTT
            } else {
                entry.edx & !HTT
            };
        }
        // Intel's cache leaf: EAX bits 25:14 threads that share this cache less one, 31:26 cores in the package less one.
        0x4 if entry.eax & 0x1f != 0 => {
            let level = (entry.eax >> 5) & 0x7;
            let sharing = if level >= 3 { count - 1 } else { 0 };
            entry.eax = (entry.eax & 0x3fff) | (sharing.min(0xfff) << 14) | ((count - 1).min(0x3f) << 26);
        }
        0xb | 0x1f => {
            let (bits, processors, level) = match entry.index {
                0 => (0, 1, LEVEL_THREAD),
                1 => (id_bits(count), count, LEVEL_CORE),
                _ => (0, 0, 0),
            };
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (bits, processors, level | entry.index, apic_id);
        }
        // AMD's flag for several cores without threads (Linux: CMP_LEGACY); Intel has this bit reserved, and no such leaf
        // as 0x8000001e.
        0x8000_0001 if host.amd && count > 1 => entry.ecx |= CMP_LEGACY,
        // ECX: cores less one, and how many bits of an APIC id count them.
        0x8000_0008 => entry.ecx = (entry.ecx & !0xf0ff) | (count - 1).min(0xff) | (id_bits(count) << 12),
        // AMD's cache leaf: EAX bits 25:14 as in leaf 4.
        0x8000_001d if entry.eax & 0x1f != 0 => {
            let level = (entry.eax >> 5) & 0x7;
            let sharing = if level >= 3 { count - 1 } else { 0 };
            entry.eax = (entry.eax & 0x3fff) | (sharing.min(0xfff) << 14);
        }
        // AMD's topology: extended APIC id; core id with one thread a core; node 0 of 1.
        0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (apic_id, apic_id & 0xff, 0),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
