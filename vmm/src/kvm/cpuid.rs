//! What the processor says of itself to the guest: what KVM can do, corrected for this guest's topology.
//!
//! Sockets of single-threaded cores; APIC ids are those of [`Topology`], as in ACPI's MADT and SRAT.

use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

use crate::topology::Topology;

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

/// One vCPU among the others.
#[derive(Clone, Copy, Debug)]
struct Place {
    apic_id: u32,
    socket: u32,
    /// Cores of the socket.
    cores: u32,
    /// How many bits of an APIC id number the cores.
    core_bits: u32,
    /// Cores that have a cache of the third level together.
    sharing: u32,
}

impl Place {
    fn of(topology: Topology, vcpu: u8, whole: bool) -> Self {
        let cores = u32::from(topology.cores());
        Self {
            apic_id: topology.apic_id(vcpu),
            socket: u32::from(topology.socket(vcpu)),
            cores,
            core_bits: topology.core_bits(),
            sharing: if whole { cores } else { 1 },
        }
    }
}

/// The entries that a vCPU of `topology` gets. `whole`: no NUMA node has only some cores of a socket, so that the cores of a
/// socket may share a cache; Linux complains of caches across nodes.
pub fn for_vcpu(kvm: &Kvm, topology: Topology, vcpu: u8, whole: bool) -> Result<CpuId, kvm_ioctls::Error> {
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
        adjust(entry, Place::of(topology, vcpu, whole), host);
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

fn adjust(entry: &mut kvm_cpuid_entry2, place: Place, host: Host) {
    let Place {
        apic_id,
        socket,
        cores,
        core_bits,
        sharing,
    } = place;
    match entry.function {
        0x1 => {
            // EBX: APIC id, logical processors in the package, CLFLUSH line size in units of 8 bytes.
            entry.ebx = (entry.ebx & 0x0000_ffff) | (cores.min(255) << 16) | (apic_id << 24);
            entry.ecx |= HYPERVISOR | if host.deadline { TSC_DEADLINE } else { 0 };
            entry.edx = if cores > 1 {
                entry.edx | HTT
            } else {
                entry.edx & !HTT
            };
        }
        // Intel's cache leaf: EAX bits 25:14 threads that share this cache less one, 31:26 cores in the package less one.
        0x4 if entry.eax & 0x1f != 0 => {
            let level = (entry.eax >> 5) & 0x7;
            let others = if level >= 3 { sharing - 1 } else { 0 };
            entry.eax = (entry.eax & 0x3fff) | (others.min(0xfff) << 14) | ((cores - 1).min(0x3f) << 26);
        }
        0xb | 0x1f => {
            let (bits, processors, level) = match entry.index {
                0 => (0, 1, LEVEL_THREAD),
                1 => (core_bits, cores, LEVEL_CORE),
                _ => (0, 0, 0),
            };
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (bits, processors, level | entry.index, apic_id);
        }
        // AMD's flag for several cores without threads (Linux: CMP_LEGACY); Intel has this bit reserved, and no such leaf
        // as 0x8000001e.
        0x8000_0001 if host.amd && cores > 1 => entry.ecx |= CMP_LEGACY,
        // ECX: cores less one, and how many bits of an APIC id count them.
        0x8000_0008 => entry.ecx = (entry.ecx & !0xf0ff) | (cores - 1).min(0xff) | (core_bits << 12),
        // AMD's cache leaf: EAX bits 25:14 as in leaf 4.
        0x8000_001d if entry.eax & 0x1f != 0 => {
            let level = (entry.eax >> 5) & 0x7;
            let others = if level >= 3 { sharing - 1 } else { 0 };
            entry.eax = (entry.eax & 0x3fff) | (others.min(0xfff) << 14);
        }
        // AMD's topology: extended APIC id; core id with one thread a core; the socket is one node.
        0x8000_001e => (entry.eax, entry.ebx, entry.ecx) = (apic_id, apic_id & 0xff, socket & 0xff),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
