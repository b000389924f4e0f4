//! What the processor says of itself to the guest: what KVM can do, corrected for this guest's topology.
//!
//! APIC ids are those of [`Topology`], as in ACPI's MADT and SRAT. What the leaves mean: Intel's manual volume 2A, CPUID; AMD's manual
//! volume 3, appendix E.

use std::arch::x86_64::__cpuid_count;
use std::collections::BTreeMap;

use kvm_bindings::{CpuId, KVM_CPUID_FLAG_SIGNIFCANT_INDEX, KVM_MAX_CPUID_ENTRIES, kvm_cpuid_entry2};
use kvm_ioctls::{Cap, Kvm};

use crate::cpu_features::CpuFeatures;
use crate::topology::Topology;

mod features;

/// Leaf 1, ECX: the deadline mode of the APIC timer.
const TSC_DEADLINE: u32 = 1 << 24;
/// Leaf 1, ECX: running under a hypervisor; without it Linux does not look for kvmclock.
const HYPERVISOR: u32 = 1 << 31;
/// Leaf 1, EDX: the package has more than one logical processor.
const HTT: u32 = 1 << 28;
/// Level type "core" of leaves 0xB and 0x1F, ECX bits 15:8; "thread" is 1.
const LEVEL_CORE: u32 = 2 << 8;
const LEVEL_THREAD: u32 = 1 << 8;
/// The leaves with those levels.
const LEVELS: [u32; 2] = [0xb, 0x1f];

/// Leaf 0x80000001, ECX: the processors that HTT tells of are cores, or told more exactly by newer leaves; AMD's all have it.
const CMP_LEGACY: u32 = 1 << 1;
/// Leaf 0x80000001, ECX: leaves 0x8000001d and 0x8000001e are there.
const TOPOEXT: u32 = 1 << 22;
/// The leaf that says which leaves of this kind are there.
const EXTENDED: u32 = 0x8000_0000;
/// The leaf of AMD's flags.
const AMD_FLAGS: u32 = 0x8000_0001;
/// AMD's leaf of caches, one for each index.
const AMD_CACHES: u32 = 0x8000_001d;
/// AMD's leaf of ids.
const AMD_IDS: u32 = 0x8000_001e;
/// Leaves 4 and 0x8000001d, EAX: no cache when 0.
const CACHE_TYPE: u32 = 0x1f;
/// More caches than any processor lists.
const MAX_CACHES: u32 = 8;
/// Leaf 0x80000007, EBX: overflow recovery (McaOverflowRecov) and SUCCOR.
const RECOVERABLE: u32 = 0b11;
/// Leaf 0, EBX: the first letters of AuthenticAMD and HygonGenuine.
const AMD_VENDORS: [u32; 2] = [u32::from_le_bytes(*b"Auth"), u32::from_le_bytes(*b"Hygo")];

/// Why a guest cannot have a processor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM would not say what the processor can do.
    #[error("cannot read the CPUID of this KVM")]
    Read(#[source] kvm_ioctls::Error),
    /// More than KVM itself would list.
    #[error("the CPUID of a vCPU has too many entries")]
    Entries,
    /// Features that were asked for.
    #[error("-cpu: this KVM lacks {missing}; 'ballast doctor' and /proc/cpuinfo tell what this host is")]
    Features {
        /// Their names.
        missing: String,
    },
}

/// What the topology leaves depend on besides the guest.
#[derive(Clone, Copy, Debug)]
struct Host {
    /// KVM emulates the deadline mode of the APIC timer.
    deadline: bool,
    /// The processor is one of AMD's.
    amd: bool,
}

/// One vCPU among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    apic_id: u32,
    /// Threads of the core.
    threads: u32,
    /// Threads of the socket.
    in_socket: u32,
    /// How many bits of an APIC id number the threads of a core.
    thread_bits: u32,
    /// How many bits of an APIC id number the threads of a socket.
    socket_bits: u32,
    /// How many bits of an APIC id number those that have the last level of cache together, as [`sharing_bits`] says.
    sharing_bits: u32,
}

impl Place {
    fn all(topology: Topology, nodes: &[u32]) -> impl Iterator<Item = Place> {
        let sharing_bits = sharing_bits(topology, nodes);
        (0..topology.vcpus()).map(move |vcpu| Place {
            apic_id: topology.apic_id(vcpu),
            threads: u32::from(topology.threads()),
            in_socket: u32::from(topology.in_socket()),
            thread_bits: topology.thread_bits(),
            socket_bits: topology.socket_bits(),
            sharing_bits,
        })
    }
}

/// The cores of a socket share a cache, or as many neighbours as are in one NUMA node everywhere: Linux complains of caches across
/// nodes. It takes from an APIC id the same number of bits in every socket.
fn sharing_bits(topology: Topology, nodes: &[u32]) -> u32 {
    let within = |bits: &u32| {
        let mut seen = BTreeMap::new();
        let node_of = |(vcpu, node)| (topology.apic_id(vcpu) >> bits, node);
        (0..)
            .zip(nodes)
            .map(node_of)
            .all(|(cache, node)| *seen.entry(cache).or_insert(node) == node)
    };
    (0..=topology.socket_bits()).rev().find(within).unwrap_or(0)
}

/// Whether the processor is one of AMD's, or made after them.
pub fn is_amd(cpuid: &[kvm_cpuid_entry2]) -> bool {
    let leaf = |entry: &kvm_cpuid_entry2| entry.function == 0 && AMD_VENDORS.contains(&entry.ebx);
    cpuid.iter().any(leaf)
}

/// The processors of a guest.
#[derive(Debug)]
pub struct Processors {
    /// What all have.
    entries: Vec<kvm_cpuid_entry2>,
    host: Host,
    topology: Topology,
    nodes: Vec<u32>,
    features: CpuFeatures,
}

impl Processors {
    /// Asks KVM what there can be. `nodes`: the NUMA node of each place, or nothing where the guest has but one.
    ///
    /// # Errors
    /// Also when KVM lacks a feature that was asked for.
    pub fn new(kvm: &Kvm, topology: Topology, nodes: Vec<u32>, features: CpuFeatures) -> Result<Self, Error> {
        let listed = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES);
        let mut entries = listed.map_err(Error::Read)?.as_slice().to_vec();
        let host = Host {
            deadline: kvm.check_extension(Cap::TscDeadlineTimer),
            amd: is_amd(&entries),
        };
        let uneven = topology.threads() > 1 || sharing_bits(topology, &nodes) < topology.socket_bits();
        complete(&mut entries, host, uneven, |index| {
            let found = __cpuid_count(AMD_CACHES, index);
            [found.eax, found.ebx, found.ecx, found.edx]
        });
        let this = Self {
            entries,
            host,
            topology,
            nodes,
            features,
        };
        this.cpuids().next().map_or(Ok(()), |first| first.map(drop))?;
        Ok(this)
    }

    /// The entries that each vCPU gets, with its APIC id.
    pub fn cpuids(&self) -> impl Iterator<Item = Result<(u32, CpuId), Error>> {
        Place::all(self.topology, &self.nodes).map(|place| {
            let mut entries = self.entries.clone();
            entries
                .iter_mut()
                .for_each(|entry| adjust(entry, place, self.host));
            features::apply(&mut entries, &self.features, self.host.amd)?;
            let cpuid = CpuId::from_entries(&entries).map_err(|_| Error::Entries)?;
            Ok((place.apic_id, cpuid))
        })
    }

    /// Bits of a guest-physical address (leaf 0x80000008, EAX bits 7:0), 36 where the leaf is missing.
    #[must_use]
    pub fn physical_bits(&self) -> u8 {
        let leaf = self.entries.iter().find(|entry| entry.function == 0x8000_0008);
        leaf.map_or(36, |entry| entry.eax.to_le_bytes()[0])
    }
}

/// Adds what KVM leaves to its users: of leaves 0xB and 0x1F it lists only the first level (since Linux 6.2), without the second
/// every vCPU is a package; and AMD's caches, `caches` by index, it does not list. An AMD processor without the leaf of ids gets one
/// where sockets are `uneven`, since without it Linux takes a socket for one cache, and a thread for a core.
fn complete(entries: &mut Vec<kvm_cpuid_entry2>, host: Host, uneven: bool, caches: impl Fn(u32) -> [u32; 4]) {
    let indexed = |function, index| kvm_cpuid_entry2 {
        function,
        index,
        flags: KVM_CPUID_FLAG_SIGNIFCANT_INDEX,
        ..Default::default()
    };
    for function in LEVELS {
        if entries.iter().any(|entry| entry.function == function) {
            entries.retain(|entry| entry.function != function);
            entries.extend((0..2).map(|index| indexed(function, index)));
        }
    }
    // What KVM supports of the flags, the processor has.
    let extended = entries
        .iter()
        .any(|entry| entry.function == AMD_FLAGS && entry.ecx & TOPOEXT != 0);
    if !host.amd || !(extended || uneven) {
        return;
    }
    entries.retain(|entry| ![AMD_CACHES, AMD_IDS].contains(&entry.function));
    for entry in entries.iter_mut() {
        match entry.function {
            EXTENDED => entry.eax = entry.eax.max(AMD_IDS),
            AMD_FLAGS => entry.ecx |= TOPOEXT,
            _ => {}
        }
    }
    entries.push(kvm_cpuid_entry2 {
        function: AMD_IDS,
        ..Default::default()
    });
    for index in 0..MAX_CACHES {
        let [eax, ebx, ecx, edx] = if extended { caches(index) } else { [0; 4] };
        entries.push(kvm_cpuid_entry2 {
            eax,
            ebx,
            ecx,
            edx,
            ..indexed(AMD_CACHES, index)
        });
        if eax & CACHE_TYPE == 0 {
            break;
        }
    }
}

fn adjust(entry: &mut kvm_cpuid_entry2, place: Place, host: Host) {
    let Place {
        apic_id,
        threads,
        in_socket,
        thread_bits,
        socket_bits,
        sharing_bits,
    } = place;
    let core_bits = socket_bits - thread_bits;
    // EAX bits 25:14: APIC ids that share this cache less one. A core's own caches are those of its threads, wherever these are.
    let others = |eax: u32| {
        let level = (eax >> 5) & 0x7;
        let bits = if level >= 3 { sharing_bits } else { thread_bits };
        (1_u32 << bits).wrapping_sub(1).min(0xfff) << 14
    };
    match entry.function {
        0x1 => {
            // EBX: APIC id, logical processors in the package, CLFLUSH line size in units of 8 bytes.
            entry.ebx = (entry.ebx & 0x0000_ffff) | (in_socket.min(255) << 16) | (apic_id << 24);
            entry.ecx |= HYPERVISOR | if host.deadline { TSC_DEADLINE } else { 0 };
            entry.edx = if in_socket > 1 {
                entry.edx | HTT
            } else {
                entry.edx & !HTT
            };
        }
        // Intel's caches. EAX bits 31:26: ids that the package has for cores, less one.
        0x4 if entry.eax & CACHE_TYPE != 0 => {
            let ids = (1_u32 << core_bits) - 1;
            entry.eax = (entry.eax & 0x3fff) | others(entry.eax) | (ids.min(0x3f) << 26);
        }
        0xb | 0x1f => {
            let (bits, processors, level) = match entry.index {
                0 => (thread_bits, threads, LEVEL_THREAD),
                1 => (socket_bits, in_socket, LEVEL_CORE),
                _ => (0, 0, 0),
            };
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (bits, processors, level | entry.index, apic_id);
        }
        // Intel has these bits reserved.
        AMD_FLAGS if host.amd && in_socket > 1 => entry.ecx |= CMP_LEGACY,
        // AMD's flags for errors that software may recover from: without them Linux panics on the first machine check.
        0x8000_0007 if host.amd => entry.ebx |= RECOVERABLE,
        // ECX: threads of the socket less one, and how many bits of an APIC id count them.
        0x8000_0008 => entry.ecx = (entry.ecx & !0xf0ff) | (in_socket - 1).min(0xff) | (socket_bits << 12),
        AMD_CACHES if entry.eax & CACHE_TYPE != 0 => entry.eax = (entry.eax & 0x3fff) | others(entry.eax),
        // The APIC id; the core of all sockets' cores, and its threads less one; the node, which to Linux is what has a cache together
        // (before family 0x17), and the only node of its socket: with several, Linux numbers the cores of each anew.
        AMD_IDS => {
            let core = (apic_id >> thread_bits) & 0xff;
            (entry.eax, entry.ebx, entry.ecx) = (apic_id, core | (threads - 1) << 8, apic_id >> sharing_bits);
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
