use super::*;

fn leaf(function: u32, index: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> kvm_cpuid_entry2 {
    kvm_cpuid_entry2 {
        function,
        index,
        eax,
        ebx,
        ecx,
        edx,
        ..Default::default()
    }
}

/// A processor with AVX-512: every feature of the leaves that are there, and the components of its state at their usual places.
fn processor() -> Vec<kvm_cpuid_entry2> {
    const ALL: u32 = u32::MAX;
    vec![
        leaf(1, 0, [0x800f12, 0, ALL, ALL]),
        leaf(7, 0, [1, ALL, ALL, ALL]),
        leaf(7, 1, [ALL, 0, 0, 0]),
        leaf(STATE, 0, [0x2e7, 2696, 2696, 0]),
        leaf(STATE, 1, [0xf, 2568, 0x1800, 0]),
        leaf(STATE, 2, [256, 576, 0, 0]),
        leaf(STATE, 5, [64, 1088, 0, 0]),
        leaf(STATE, 6, [512, 1152, 0, 0]),
        leaf(STATE, 7, [1024, 1664, 0, 0]),
        leaf(STATE, 9, [8, 2688, 0, 0]),
        // Of the supervisor, which XSAVE does not save.
        leaf(STATE, 11, [16, 0, 1, 0]),
        leaf(AMD_FLAGS, 0, [0, 0, ALL, ALL]),
        leaf(0x8000_000a, 0, [1, 8, 0, ALL]),
    ]
}

fn applied(given: &[(&str, bool)], amd: bool) -> Result<Vec<kvm_cpuid_entry2>, String> {
    let mut features = CpuFeatures::default();
    given
        .iter()
        .for_each(|(name, on)| features.set(name, *on).unwrap());
    let mut entries = processor();
    apply(&mut entries, &features, amd).map_err(|error| error.to_string())?;
    Ok(entries)
}

fn registers(entries: &[kvm_cpuid_entry2], function: u32, index: u32) -> [u32; 4] {
    let found = entries
        .iter()
        .find(|entry| (entry.function, entry.index) == (function, index));
    let entry = found.unwrap();
    [entry.eax, entry.ebx, entry.ecx, entry.edx]
}

#[test]
fn nothing_asked_changes_nothing() {
    for amd in [true, false] {
        assert_eq!(applied(&[], amd).unwrap(), processor());
        assert_eq!(
            applied(&[("avx2", true), ("x2apic", true)], amd).unwrap(),
            processor()
        );
    }
}

#[test]
fn single_bits_are_taken_off() {
    let entries = applied(&[("rdrand", false), ("rdseed", false), ("lahf-lm", false)], true).unwrap();
    assert_eq!(registers(&entries, 1, 0)[2], !(1 << 30));
    assert_eq!(registers(&entries, 7, 0)[1], !(1 << 18));
    assert_eq!(registers(&entries, AMD_FLAGS, 0)[2], !1);
    assert_eq!(registers(&entries, STATE, 0), [0x2e7, 2696, 2696, 0]);
}

#[test]
fn state_goes_with_its_feature() {
    for (name, components, size) in [
        ("avx512f", 0x207, 2696),
        ("avx", 0x203, 2696),
        ("pku", 0xe7, 2688),
    ] {
        let entries = applied(&[(name, false)], false).unwrap();
        let [eax, _, ecx, _] = registers(&entries, STATE, 0);
        assert_eq!((eax, ecx), (components, size), "{name}");
        assert_eq!(registers(&entries, STATE, 11), [16, 0, 1, 0]);
    }
    let both = applied(&[("avx512f", false), ("pku", false)], false).unwrap();
    assert_eq!(registers(&both, STATE, 0), [7, 2696, 832, 0]);
    assert_eq!(registers(&both, STATE, 7), [0; 4]);
    assert_eq!(registers(&both, 7, 0)[1] & (1 << 16 | 1 << 31 | 1 << 5), 1 << 5);
    let least = applied(&[("avx", false), ("pku", false)], false).unwrap();
    assert_eq!(registers(&least, STATE, 0), [3, 2696, LEGACY_STATE, 0]);
}

#[test]
fn leaves_go_with_their_feature() {
    let entries = applied(&[("svm", false), ("xsave", false)], true).unwrap();
    assert_eq!(registers(&entries, 0x8000_000a, 0), [0; 4]);
    for index in [0, 1, 2, 5, 6, 7, 9, 11] {
        assert_eq!(registers(&entries, STATE, index), [0; 4]);
    }
}

#[test]
fn amd_repeats_leaf_1() {
    for (amd, flags) in [(true, !(1 << 9)), (false, u32::MAX)] {
        let entries = applied(&[("apic", false)], amd).unwrap();
        assert_eq!(registers(&entries, 1, 0)[3], !(1 << 9));
        assert_eq!(registers(&entries, AMD_FLAGS, 0)[3], flags);
    }
    // Bits of its own stay as they are.
    let entries = applied(&[("sep", false)], true).unwrap();
    assert_eq!(registers(&entries, AMD_FLAGS, 0)[3], u32::MAX);
}

#[test]
fn what_is_not_there_is_named() {
    let error = applied(&[("invtsc", true), ("avx2", true), ("sgx1", true)], false).unwrap_err();
    assert!(error.contains("lacks invtsc, sgx1"), "{error}");
}
