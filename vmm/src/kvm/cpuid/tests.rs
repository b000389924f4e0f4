use super::*;

const AMD: Host = Host {
    deadline: true,
    amd: true,
};
const INTEL_WITHOUT_DEADLINE: Host = Host {
    deadline: false,
    amd: false,
};

fn one_socket(vcpu: u8, cores: u8) -> Place {
    Place::of(Topology::one_socket(cores).unwrap(), vcpu, true)
}

fn leaf(function: u32, index: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        index,
        eax: 0x21,
        ..Default::default()
    }
}

#[test]
fn leaf_1_names_the_vcpu_and_the_hypervisor() {
    let mut entry = kvm_cpuid_entry2 {
        ebx: 0xff08_020a,
        ..leaf(1, 0)
    };
    adjust(&mut entry, one_socket(3, 4), AMD);
    assert_eq!(entry.ebx, 0x0304_020a);
    assert_eq!(entry.ecx, HYPERVISOR | TSC_DEADLINE);
    assert_eq!(entry.edx & HTT, HTT);
}

#[test]
fn a_single_vcpu_has_no_siblings() {
    let mut entry = kvm_cpuid_entry2 {
        edx: HTT,
        ..leaf(1, 0)
    };
    adjust(&mut entry, one_socket(0, 1), INTEL_WITHOUT_DEADLINE);
    assert_eq!((entry.edx, entry.ecx), (0, HYPERVISOR));
}

#[test]
fn topology_levels_fit_the_apic_ids() {
    let levels: Vec<_> = (0..3)
        .map(|index| {
            let mut entry = leaf(0xb, index);
            adjust(&mut entry, one_socket(5, 6), AMD);
            (entry.eax, entry.ebx, entry.ecx, entry.edx)
        })
        .collect();
    assert_eq!(levels, [(0, 1, 0x100, 5), (3, 6, 0x201, 5), (0, 0, 2, 5)]);
}

#[test]
fn amd_counts_cores_in_one_node() {
    let mut entry = leaf(0x8000_0008, 0);
    adjust(&mut entry, one_socket(1, 4), AMD);
    assert_eq!(entry.ecx, 3 | 2 << 12);
    let mut entry = leaf(0x8000_001e, 0);
    adjust(&mut entry, one_socket(1, 4), AMD);
    assert_eq!((entry.eax, entry.ebx, entry.ecx), (1, 1, 0));
}

#[test]
fn amd_says_that_its_cores_have_no_threads() {
    for (count, host, flag) in [(4, AMD, CMP_LEGACY), (1, AMD, 0), (4, INTEL_WITHOUT_DEADLINE, 0)] {
        let mut entry = kvm_cpuid_entry2 {
            ecx: 0,
            ..leaf(0x8000_0001, 0)
        };
        adjust(&mut entry, one_socket(0, count), host);
        assert_eq!(entry.ecx, flag, "{count} vCPUs on {host:?}");
    }
}

#[test]
fn sockets_are_above_the_cores() {
    let place = Place::of(Topology::new(2, 3).unwrap(), 4, true);
    let mut levels = [leaf(0xb, 0), leaf(0xb, 1)];
    levels
        .iter_mut()
        .for_each(|entry| adjust(entry, place, INTEL_WITHOUT_DEADLINE));
    let levels = levels.map(|entry| (entry.eax, entry.ebx, entry.ecx, entry.edx));
    assert_eq!(levels, [(0, 1, 0x100, 5), (2, 3, 0x201, 5)]);
    let mut entry = leaf(0x8000_001e, 0);
    adjust(&mut entry, place, AMD);
    assert_eq!((entry.eax, entry.ebx, entry.ecx), (5, 5, 1));
}

/// EAX bits 25:14: who shares the cache, less one.
#[test]
fn cores_share_a_cache_only_inside_a_node() {
    let topology = Topology::one_socket(4).unwrap();
    for function in [0x4, 0x8000_001d] {
        for (level, whole, sharing) in [(3, true, 3), (3, false, 0), (2, true, 0)] {
            let mut entry = leaf(function, level);
            entry.eax = 3 | level << 5;
            adjust(&mut entry, Place::of(topology, 1, whole), AMD);
            assert_eq!(entry.eax >> 14 & 0xfff, sharing, "level {level}, whole {whole}");
        }
    }
}
