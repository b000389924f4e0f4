//! A guest without some of what KVM offers it, or not at all.

use kvm_bindings::kvm_cpuid_entry2;

use super::{AMD_FLAGS, Error};
use crate::cpu_features::{CpuFeatures, Register, Word, words};

/// AMD's leaf 0x80000001, EDX: the bits that repeat those of leaf 1.
const REPEATED: u32 = 0x0183_f3ff;
/// The leaf of saved state. Its first index has the components as bits of EAX and EDX and all their bytes in ECX, each other one a
/// component's bytes in EAX and its offset in EBX.
const STATE: u32 = 0xd;
/// The x87 and SSE components, which have no index of their own, and the header behind them.
const LEGACY_STATE: u32 = 512 + 64;

/// Leaves that belong to a feature. They are empty where it is off.
const LEAVES: &[(&str, &[u32])] = &[
    ("xsave", &[STATE]),
    ("sgx", &[0x12]),
    ("intel-pt", &[0x14]),
    ("amx-tile", &[0x1d, 0x1e]),
    ("svm", &[0x8000_000a]),
];
/// Components of the saved state that belong to a feature, by their bits.
const COMPONENTS: &[(&str, u32)] = &[
    ("avx", 1 << 2),
    ("mpx", 0b11 << 3),
    ("avx512f", 0b111 << 5),
    ("pku", 1 << 9),
    ("amx-tile", 0b11 << 17),
];

/// Takes off what the guest is not to have. `entries` are all that a vCPU has.
///
/// # Errors
/// [`Error::Features`] when something is asked for that is not there.
pub(super) fn apply(
    entries: &mut [kvm_cpuid_entry2],
    features: &CpuFeatures,
    amd: bool,
) -> Result<(), Error> {
    let has = |name: &str| {
        let at = |(word, mask): (&Word, u32)| {
            entries
                .iter()
                .any(|entry| is(entry, word) && value(entry, word) & mask != 0)
        };
        words(name).any(at)
    };
    let missing: Vec<_> = features.on().filter(|name| !has(name)).collect();
    if !missing.is_empty() {
        return Err(Error::Features {
            missing: missing.join(", "),
        });
    }
    let off = features.off();
    for (word, mask) in off.iter().flat_map(|name| words(name)) {
        for entry in entries.iter_mut().filter(|entry| is(entry, word)) {
            *register(entry, word.register) &= !mask;
        }
    }
    for leaf in LEAVES
        .iter()
        .filter(|(name, _)| off.contains(name))
        .flat_map(|(_, leaves)| *leaves)
    {
        for entry in entries.iter_mut().filter(|entry| entry.function == *leaf) {
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
        }
    }
    let components = COMPONENTS.iter().filter(|(name, _)| off.contains(name));
    remove_state(entries, components.fold(0, |mask, (_, bits)| mask | bits));
    if amd {
        let first = entries
            .iter()
            .find(|entry| entry.function == 1)
            .map(|entry| entry.edx);
        for entry in entries.iter_mut().filter(|entry| entry.function == AMD_FLAGS) {
            entry.edx &= !REPEATED | first.unwrap_or(u32::MAX);
        }
    }
    Ok(())
}

/// Takes components out of what XSAVE saves, and their bytes off its size; EBX, what the enabled ones need, is KVM's.
fn remove_state(entries: &mut [kvm_cpuid_entry2], components: u32) {
    if components == 0 {
        return;
    }
    for entry in entries.iter_mut().filter(|entry| entry.function == STATE) {
        let own = 1_u32.checked_shl(entry.index).unwrap_or(0);
        if entry.index > 1 && components & own != 0 {
            (entry.eax, entry.ebx, entry.ecx, entry.edx) = (0, 0, 0, 0);
        }
    }
    let ends = entries
        .iter()
        .filter(|entry| entry.function == STATE && entry.index > 1 && entry.ecx & 1 == 0);
    let size = ends.map(|entry| entry.eax.saturating_add(entry.ebx)).max();
    for entry in entries
        .iter_mut()
        .filter(|entry| (entry.function, entry.index) == (STATE, 0))
    {
        entry.eax &= !components;
        // Nothing at all: there is no XSAVE.
        if entry.eax != 0 {
            entry.ecx = size.unwrap_or(0).max(LEGACY_STATE);
        }
    }
}

fn is(entry: &kvm_cpuid_entry2, word: &Word) -> bool {
    (entry.function, entry.index) == (word.leaf, word.index)
}

fn value(entry: &kvm_cpuid_entry2, word: &Word) -> u32 {
    match word.register {
        Register::Eax => entry.eax,
        Register::Ebx => entry.ebx,
        Register::Ecx => entry.ecx,
        Register::Edx => entry.edx,
    }
}

fn register(entry: &mut kvm_cpuid_entry2, register: Register) -> &mut u32 {
    match register {
        Register::Eax => &mut entry.eax,
        Register::Ebx => &mut entry.ebx,
        Register::Ecx => &mut entry.ecx,
        Register::Edx => &mut entry.edx,
    }
}

#[cfg(test)]
mod tests;
