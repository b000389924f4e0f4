use super::*;

#[test]
fn every_bit_has_one_name_and_every_word_is_there_once() {
    let mut seen = BTreeSet::new();
    let mut places = Vec::new();
    for word in table::WORDS {
        assert!(word.names().count() <= 32, "{word:?}");
        let place = (word.leaf, word.index, word.register);
        assert!(!places.contains(&place), "{place:?} is there twice");
        places.push(place);
        for name in word.names().filter(|name| *name != table::NONE) {
            assert!(seen.insert(name) || name == "kvmclock", "{name} is there twice");
        }
    }
    assert!(seen.len() > 250);
    let named = NEEDS
        .iter()
        .flat_map(|(needed, others)| others.split_whitespace().chain([*needed]));
    let named = named
        .chain(ALIASES.iter().map(|(_, name)| *name))
        .chain(BY_TOPOLOGY);
    let unknown: Vec<_> = named.filter(|name| !seen.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(IN_MSRS.split_whitespace().all(|name| !seen.contains(name)));
}

/// Bits that the manuals tell, at the ends of words, where a name too few would show.
#[test]
fn names_are_at_their_bits() {
    use Register::{Eax, Ebx, Ecx, Edx};
    for (name, leaf, index, register, bit) in [
        ("fpu", 1, 0, Edx, 0),
        ("sse2", 1, 0, Edx, 26),
        ("pbe", 1, 0, Edx, 31),
        ("x2apic", 1, 0, Ecx, 21),
        ("rdrand", 1, 0, Ecx, 30),
        ("hypervisor", 1, 0, Ecx, 31),
        ("arat", 6, 0, Eax, 2),
        ("avx2", 7, 0, Ebx, 5),
        ("avx512vl", 7, 0, Ebx, 31),
        ("la57", 7, 0, Ecx, 16),
        ("pks", 7, 0, Ecx, 31),
        ("md-clear", 7, 0, Edx, 10),
        ("ibt", 7, 0, Edx, 20),
        ("ssbd", 7, 0, Edx, 31),
        ("avx-ifma", 7, 1, Eax, 23),
        ("lam", 7, 1, Eax, 26),
        ("avx10", 7, 1, Edx, 19),
        ("mcdt-no", 7, 2, Edx, 5),
        ("xsaves", 0xd, 1, Eax, 3),
        ("sgx-edeccssa", 0x12, 0, Eax, 11),
        ("sgx-aex-notify", 0x12, 1, Eax, 10),
        ("intel-pt-lip", 0x14, 0, Ecx, 31),
        ("kvm-msi-ext-dest-id", 0x4000_0001, 0, Eax, 15),
        ("kvmclock-stable-bit", 0x4000_0001, 0, Eax, 24),
        ("nx", 0x8000_0001, 0, Edx, 20),
        ("3dnow", 0x8000_0001, 0, Edx, 31),
        ("svm", 0x8000_0001, 0, Ecx, 2),
        ("topoext", 0x8000_0001, 0, Ecx, 22),
        ("perfctr-nb", 0x8000_0001, 0, Ecx, 24),
        ("invtsc", 0x8000_0007, 0, Edx, 8),
        ("amd-psfd", 0x8000_0008, 0, Ebx, 28),
        ("svme-addr-chk", 0x8000_000a, 0, Edx, 28),
        ("srso-user-kernel-no", 0x8000_0021, 0, Eax, 30),
        ("pmm-en", 0xc000_0001, 0, Edx, 13),
    ] {
        let found: Vec<_> = words(name)
            .map(|(word, mask)| (word.leaf, word.index, word.register, mask))
            .collect();
        assert_eq!(found, [(leaf, index, register, 1 << bit)], "{name}");
    }
    assert_eq!(
        words("kvmclock").map(|(_, mask)| mask).collect::<Vec<_>>(),
        [0b1001]
    );
}

#[test]
fn other_spellings_are_found() {
    for (typed, name) in [
        ("sse4_1", "sse4.1"),
        ("tsc_adjust", "tsc-adjust"),
        ("xd", "nx"),
        ("avx2", "avx2"),
    ] {
        assert_eq!(find(typed), Ok(name));
    }
    for (typed, part) in [
        (
            "avx3",
            "'avx3' is no feature that a processor can have; they have QEMU's names",
        ),
        ("-", "'-' is no feature"),
        ("", "'' is no feature"),
        ("rdctl-no", "'rdctl-no' is a bit of an MSR"),
        ("vmx_ept", "'vmx_ept' is a bit of an MSR"),
        ("ht", "'ht' follows from the sockets, cores and threads of -smp"),
    ] {
        let text = find(typed).unwrap_err().to_string();
        assert!(text.starts_with(part), "{text}");
    }
}

fn features(given: &[(&str, bool)]) -> CpuFeatures {
    let mut features = CpuFeatures::default();
    given
        .iter()
        .for_each(|(name, on)| features.set(name, *on).unwrap());
    features
}

#[test]
fn what_needs_a_feature_goes_with_it() {
    assert_eq!(
        features(&[("rdrand", false), ("avx2", true)]).off(),
        BTreeSet::from(["rdrand"])
    );
    let without_xsave = features(&[("xsave", false)]).off();
    for name in ["avx", "avx2", "avx512f", "avx512-bf16", "amx-int8", "pku"] {
        assert!(without_xsave.contains(name), "{name}");
    }
    assert!(!without_xsave.contains("sse4.2"));
    let without_avx512f = features(&[("avx512f", false)]).off();
    assert!(without_avx512f.contains("avx512vl") && !without_avx512f.contains("avx2"));
}

#[test]
fn contradictions_are_refused() {
    let mut both = features(&[("avx", true)]);
    both.set("avx", true).unwrap();
    assert_eq!(both.set("avx", false), Err(FeatureError::Both { name: "avx" }));
    let needs = features(&[("avx512vl", true), ("avx", false)]);
    let expected = FeatureError::Needs {
        name: "avx512vl",
        needed: "avx",
    };
    assert_eq!(needs.check(), Err(expected));
    assert_eq!(features(&[("avx", true), ("avx2", false)]).check(), Ok(()));
}
