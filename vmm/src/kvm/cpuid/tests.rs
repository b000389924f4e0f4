use super::*;

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
    adjust(&mut entry, 3, 4, true);
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
    adjust(&mut entry, 0, 1, false);
    assert_eq!((entry.edx, entry.ecx), (0, HYPERVISOR));
}

#[test]
fn topology_levels_fit_the_apic_ids() {
    let levels: Vec<_> = (0..3)
        .map(|index| {
            let mut entry = leaf(0xb, index);
            adjust(&mut entry, 5, 6, true);
            (entry.eax, entry.ebx, entry.ecx, entry.edx)
        })
        .collect();
    assert_eq!(levels, [(0, 1, 0x100, 5), (3, 6, 0x201, 5), (0, 0, 2, 5)]);
}

#[test]
fn amd_counts_cores_in_one_node() {
    let mut entry = leaf(0x8000_0008, 0);
    adjust(&mut entry, 1, 4, true);
    assert_eq!(entry.ecx, 3 | 2 << 12);
    let mut entry = leaf(0x8000_001e, 0);
    adjust(&mut entry, 1, 4, true);
    assert_eq!((entry.eax, entry.ebx, entry.ecx), (1, 1, 0));
}
