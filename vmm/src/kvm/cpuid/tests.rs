use super::*;

const AMD: Host = Host {
    deadline: true,
    amd: true,
};
const INTEL_WITHOUT_DEADLINE: Host = Host {
    deadline: false,
    amd: false,
};

fn leaf(function: u32, index: u32) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        index,
        ..Default::default()
    }
}

fn adjusted(mut entry: kvm_cpuid_entry2, place: Place, host: Host) -> kvm_cpuid_entry2 {
    adjust(&mut entry, place, host);
    entry
}

/// A data, an instruction or a unified cache at a level.
fn cache(index: u32) -> u32 {
    [1 | 1 << 5, 2 | 1 << 5, 3 | 2 << 5, 3 | 3 << 5]
        .get(index as usize)
        .map_or(0, |eax| eax | 0xffff_c000)
}

/// What a vCPU tells its guest, of a KVM as it is since Linux 6.2.
fn entries(place: Place, host: Host) -> Vec<kvm_cpuid_entry2> {
    let listed = [1, 0xb, 0x1f, EXTENDED, 0x8000_0008, AMD_CACHES, AMD_IDS];
    let mut entries: Vec<_> = listed.map(|function| leaf(function, 0)).into();
    entries.push(kvm_cpuid_entry2 {
        ecx: TOPOEXT,
        ..leaf(AMD_FLAGS, 0)
    });
    entries.extend((0..4).map(|index| kvm_cpuid_entry2 {
        eax: cache(index),
        ..leaf(4, index)
    }));
    complete(&mut entries, host, false, |index| [cache(index), 0, 0, 0]);
    entries.iter_mut().for_each(|entry| adjust(entry, place, host));
    entries
}

/// What Linux makes of it (`arch/x86/kernel/cpu/topology_*.c`, `cacheinfo.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Decoded {
    apic_id: u32,
    package: u32,
    core: u32,
    thread: u32,
    threads: u32,
    in_socket: u32,
    /// The first and the last APIC id with which the last level of cache is shared.
    cache: (u32, u32),
    /// The same of an AMD processor before family 0x17, and the same for all that share.
    old_cache: u32,
}

fn decode(entries: &[kvm_cpuid_entry2], host: Host) -> Decoded {
    let find = |function, index| {
        let same = |entry: &&kvm_cpuid_entry2| (entry.function, entry.index) == (function, index);
        *entries.iter().find(same).unwrap()
    };
    let (thread, core) = (find(0xb, 0), find(0xb, 1));
    assert_eq!((thread.ecx >> 8, core.ecx >> 8, core.edx), (1, 2, thread.edx));
    let twin =
        |index| [find(0xb, index), find(0x1f, index)].map(|leaf| (leaf.eax, leaf.ebx, leaf.ecx, leaf.edx));
    assert!((0..2).all(|index| twin(index)[0] == twin(index)[1]));
    let (apic_id, shift, in_socket) = (core.edx, core.eax & 0x1f, core.ebx);
    let (smt, threads) = (thread.eax & 0x1f, thread.ebx);

    let first = find(1, 0);
    assert_eq!((first.ebx >> 24, first.ebx >> 16 & 0xff), (apic_id, in_socket));
    assert_eq!(first.edx & HTT != 0, in_socket > 1);
    let sizes = find(0x8000_0008, 0).ecx;
    assert_eq!((sizes & 0xff, sizes >> 12 & 0xf), (in_socket - 1, shift));
    let ids = find(AMD_IDS, 0);
    assert_eq!((ids.eax, ids.ecx >> 8), (apic_id, 0));
    assert_eq!((ids.ebx & 0xff, (ids.ebx >> 8) + 1), (apic_id >> smt, threads));

    let caches = if host.amd { AMD_CACHES } else { 4 };
    let own = (0..3).all(|index| find(caches, index).eax >> 14 & 0xfff == (1 << smt) - 1);
    assert!(own, "caches of the first two levels are each core's own");
    let last = find(caches, 3).eax;
    if !host.amd {
        assert_eq!(last >> 26, (1 << (shift - smt)) - 1);
    }
    let sharing = (last >> 14 & 0xfff) + 1;
    let from = apic_id - apic_id % sharing;
    Decoded {
        apic_id,
        package: apic_id >> shift,
        core: (apic_id & ((1 << shift) - 1)) >> smt,
        thread: apic_id & ((1 << smt) - 1),
        threads,
        in_socket,
        cache: (from, from + sharing - 1),
        old_cache: ids.ecx & 0xff,
    }
}

/// `(sockets, cores, threads, the nodes of the places, how many bits of an APIC id number those with a cache together)`.
const GUESTS: [(u8, u8, u8, &[u32], u32); 14] = [
    (1, 1, 1, &[], 0),
    (1, 6, 1, &[], 3),
    (2, 3, 1, &[], 2),
    (2, 2, 1, &[0, 0, 1, 1], 1),
    // As in the test with a guest: a socket in two nodes.
    (2, 2, 1, &[0, 0, 1, 3], 0),
    (1, 3, 1, &[0, 0, 1], 1),
    (1, 8, 1, &[0, 0, 0, 0, 1, 1, 1, 1], 2),
    // A node with two sockets.
    (2, 2, 1, &[1, 1, 1, 1], 1),
    (3, 5, 1, &[0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 0, 1, 0, 1, 0], 0),
    (1, 1, 2, &[], 1),
    (2, 4, 2, &[], 3),
    (2, 3, 3, &[], 4),
    (1, 4, 2, &[0, 0, 0, 0, 1, 1, 1, 1], 2),
    // A core in two nodes shares nothing beyond itself.
    (1, 2, 2, &[0, 1, 1, 1], 0),
];

#[test]
fn linux_finds_the_topology_asked_for() {
    for (host, (sockets, cores, threads, nodes, bits)) in [AMD, INTEL_WITHOUT_DEADLINE]
        .into_iter()
        .flat_map(|host| GUESTS.map(|guest| (host, guest)))
    {
        let topology = Topology::new(sockets, cores, threads).unwrap();
        let found: Vec<_> = Place::all(topology, nodes)
            .map(|place| decode(&entries(place, host), host))
            .collect();
        assert_eq!(found.len(), usize::from(topology.vcpus()));
        let vcpus = || (0..topology.vcpus()).zip(&found);
        for (vcpu, one) in vcpus() {
            assert_eq!(one.package, u32::from(topology.socket(vcpu)));
            assert_eq!(
                (one.core, one.thread),
                (u32::from(topology.core(vcpu)), u32::from(topology.thread(vcpu)))
            );
            assert_eq!(
                (one.apic_id, one.threads, one.in_socket),
                (
                    topology.apic_id(vcpu),
                    u32::from(threads),
                    u32::from(topology.in_socket())
                )
            );
            assert_eq!(one.cache.1 - one.cache.0 + 1, 1 << bits, "{one:?}");
            for (other, with) in vcpus() {
                let shared = (one.cache.0..=one.cache.1).contains(&with.apic_id);
                assert_eq!(shared, one.old_cache == with.old_cache, "{one:?} {with:?}");
                let node = |vcpu: u8| nodes.get(usize::from(vcpu));
                let near = one.package == with.package && node(vcpu) == node(other);
                assert!(near || !shared, "{one:?} {with:?}");
            }
        }
    }
}

#[test]
fn leaf_1_names_the_vcpu_and_the_hypervisor() {
    let place = Place::all(Topology::one_socket(4).unwrap(), &[]).last().unwrap();
    let entry = kvm_cpuid_entry2 {
        ebx: 0xff08_020a,
        ..leaf(1, 0)
    };
    let found = adjusted(entry, place, AMD);
    assert_eq!((found.ebx, found.ecx), (0x0304_020a, HYPERVISOR | TSC_DEADLINE));
    assert_eq!(adjusted(entry, place, INTEL_WITHOUT_DEADLINE).ecx, HYPERVISOR);
}

#[test]
fn a_single_vcpu_has_no_siblings() {
    let entry = kvm_cpuid_entry2 {
        edx: HTT,
        ..leaf(1, 0)
    };
    let place = Place::all(Topology::default(), &[]).next().unwrap();
    assert_eq!(adjusted(entry, place, AMD).edx, 0);
}

#[test]
fn amd_says_that_its_processors_are_cores() {
    for (count, host, flags) in [(4, AMD, CMP_LEGACY), (1, AMD, 0), (4, INTEL_WITHOUT_DEADLINE, 0)] {
        let place = Place::all(Topology::one_socket(count).unwrap(), &[])
            .next()
            .unwrap();
        let found = adjusted(leaf(AMD_FLAGS, 0), place, host);
        assert_eq!(found.ecx, flags, "{count} vCPUs on {host:?}");
    }
}

#[test]
fn what_kvm_does_not_list_is_added_once() {
    let listed = |entries: &[kvm_cpuid_entry2]| -> Vec<_> {
        let mut found: Vec<_> = entries
            .iter()
            .map(|entry| (entry.function, entry.index))
            .collect();
        found.sort_unstable();
        found
    };
    let none = |_| [0; 4];
    for before in [&[(0xb, 0)][..], &[(0xb, 0), (0xb, 1), (0xb, 2)]] {
        let mut entries: Vec<_> = before
            .iter()
            .map(|(function, index)| leaf(*function, *index))
            .collect();
        complete(&mut entries, AMD, false, none);
        assert_eq!(listed(&entries), [(0xb, 0), (0xb, 1)]);
        let significant = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
        assert!(entries.iter().all(|entry| entry.flags == significant));
    }
    let mut without = vec![leaf(1, 0), leaf(AMD_FLAGS, 0)];
    let before = listed(&without);
    complete(&mut without, AMD, false, none);
    assert_eq!(listed(&without), before);
    // The list of caches ends where there is none, or where it is too long to be true.
    for (caches, last) in [(4, 4), (u32::MAX, MAX_CACHES - 1)] {
        let mut amd = vec![leaf(AMD_CACHES, 0), leaf(AMD_IDS, 0), leaf(AMD_FLAGS, 0)];
        amd[2].ecx = TOPOEXT;
        complete(&mut amd, AMD, false, |index| [u32::from(index < caches), 0, 0, 0]);
        let mut expected = vec![(AMD_FLAGS, 0)];
        expected.extend((0..=last).map(|index| (AMD_CACHES, index)));
        expected.push((AMD_IDS, 0));
        assert_eq!(listed(&amd), expected);
    }
}

/// An emulated processor has neither the flag nor the leaves.
#[test]
fn a_split_socket_gets_ids_where_the_processor_has_none() {
    let before = || {
        let highest = kvm_cpuid_entry2 {
            eax: 0x8000_000a,
            ..leaf(EXTENDED, 0)
        };
        vec![highest, leaf(AMD_FLAGS, 0)]
    };
    let unknown = |_| panic!("there are none to ask for");
    let mut intel = before();
    complete(&mut intel, INTEL_WITHOUT_DEADLINE, true, unknown);
    assert_eq!(intel, before());
    let mut amd = before();
    complete(&mut amd, AMD, true, unknown);
    let place = Place::all(Topology::new(2, 2, 1).unwrap(), &[0, 0, 1, 3])
        .last()
        .unwrap();
    let find = |function| {
        adjusted(
            *amd.iter().find(|entry| entry.function == function).unwrap(),
            place,
            AMD,
        )
    };
    assert_eq!(find(EXTENDED).eax, AMD_IDS);
    assert_eq!(find(AMD_FLAGS).ecx, TOPOEXT | CMP_LEGACY);
    assert_eq!(find(AMD_CACHES).eax, 0);
    assert_eq!((find(AMD_IDS).eax, find(AMD_IDS).ecx), (3, 3));
}

/// A guest with fewer vCPUs than places has the entries of those that there are.
#[test]
fn places_without_a_vcpu_change_nothing_for_the_others() {
    let all = Topology::new(2, 2, 2).unwrap();
    let some = all.with_vcpus(3).unwrap();
    let nodes = [0, 0, 0, 0, 1, 1, 1, 1];
    let places: Vec<_> = Place::all(some, &nodes).collect();
    assert_eq!(places, Place::all(all, &nodes).take(3).collect::<Vec<_>>());
}
