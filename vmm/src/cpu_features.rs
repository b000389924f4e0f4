//! Features of a processor by QEMU's names, and which of them a guest is to have or not to have.

use std::collections::{BTreeMap, BTreeSet};

mod table;

pub use table::{Register, Word};

/// Spellings that QEMU takes besides its own names.
const ALIASES: &[(&str, &str)] = &[
    ("sse3", "pni"),
    ("pclmuldq", "pclmulqdq"),
    ("sse4-1", "sse4.1"),
    ("sse4-2", "sse4.2"),
    ("xd", "nx"),
    ("ffxsr", "fxsr-opt"),
    ("i64", "lm"),
];

/// Names of QEMU's that stand for bits of MSRs; those of VMX all begin with `vmx-`.
const IN_MSRS: &str = "rdctl-no ibrs-all rsba skip-l1dfl-vmentry ssb-no mds-no pschange-mc-no tsx-ctrl taa-no sbdr-ssdp-no fbsdp-no \
                       psdp-no fb-clear bhi-no pbrsb-no gds-no rfds-no rfds-clear its-no split-lock-detect full-width-write";

/// What `-smp` decides.
const BY_TOPOLOGY: [&str; 2] = ["ht", "cmp-legacy"];

/// What is nothing without a feature: programs that look at the one bit only would use what faults.
const NEEDS: &[(&str, &str)] = &[
    ("xsave", "avx xsaveopt xsavec xgetbv1 xsaves xfd pku mpx amx-tile"),
    (
        "avx",
        "avx2 fma f16c xop fma4 vaes vpclmulqdq avx-vnni avx-vnni-int8 avx-vnni-int16 avx-ne-convert avx-ifma sha512 sm3 sm4 \
         avx512f avx10",
    ),
    ("avx2", "avx512f"),
    (
        "avx512f",
        "avx512dq avx512ifma avx512pf avx512er avx512cd avx512bw avx512vl avx512vbmi avx512vbmi2 avx512vnni avx512bitalg \
         avx512-vpopcntdq avx512-4vnniw avx512-4fmaps avx512-vp2intersect avx512-fp16 avx512-bf16",
    ),
    ("amx-tile", "amx-bf16 amx-int8 amx-fp16 amx-complex"),
    ("sgx", "sgxlc"),
];

/// Why a feature cannot be asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeatureError {
    /// No such name.
    #[error("'{name}' is no feature that a processor can have{near}; they have QEMU's names")]
    Unknown {
        /// What was typed.
        name: String,
        /// ", did you mean …" or nothing.
        near: String,
    },
    /// A bit of an MSR.
    #[error(
        "'{name}' is a bit of an MSR; those are as KVM has them, only features that CPUID tells can be chosen"
    )]
    Msr {
        /// Its name.
        name: String,
    },
    /// It follows from something else.
    #[error("'{name}' follows from the sockets, cores and threads of -smp")]
    Topology {
        /// Its name.
        name: &'static str,
    },
    /// Asked for, and asked not to have.
    #[error("'{name}' is both on and off")]
    Both {
        /// Its name.
        name: &'static str,
    },
    /// It needs one that the guest is not to have.
    #[error("'{name}' is on, but it is nothing without '{needed}', which is off")]
    Needs {
        /// Its name.
        name: &'static str,
        /// What it needs.
        needed: &'static str,
    },
}

/// What differs from the processor that KVM offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuFeatures(BTreeMap<&'static str, bool>);

impl CpuFeatures {
    /// Has a feature on or off.
    ///
    /// # Errors
    /// [`FeatureError`] when there is no such feature, or it is there already, the other way round.
    pub fn set(&mut self, name: &str, on: bool) -> Result<(), FeatureError> {
        let name = find(name)?;
        match self.0.insert(name, on) {
            Some(before) if before != on => Err(FeatureError::Both { name }),
            _ => Ok(()),
        }
    }

    /// Checks that nothing that is on needs what is off.
    ///
    /// # Errors
    /// [`FeatureError::Needs`].
    pub fn check(&self) -> Result<(), FeatureError> {
        let needed = |name| self.given(false).find(|off| Self::without(off).contains(name));
        match self.given(true).find_map(|name| Some((name, needed(name)?))) {
            Some((name, needed)) => Err(FeatureError::Needs { name, needed }),
            None => Ok(()),
        }
    }

    /// What is asked for.
    pub fn on(&self) -> impl Iterator<Item = &'static str> {
        self.given(true)
    }

    /// What the guest is not to have, and what is nothing without it.
    #[must_use]
    pub fn off(&self) -> BTreeSet<&'static str> {
        self.given(false).flat_map(Self::without).collect()
    }

    fn given(&self, on: bool) -> impl Iterator<Item = &'static str> {
        self.0
            .iter()
            .filter(move |(_, is)| **is == on)
            .map(|(name, _)| *name)
    }

    /// A feature and all that need it.
    fn without(name: &'static str) -> BTreeSet<&'static str> {
        let mut found = BTreeSet::from([name]);
        // A row names what needs it before the rows of those.
        for (needed, others) in NEEDS {
            if found.contains(needed) {
                found.extend(others.split_whitespace());
            }
        }
        found
    }
}

/// The bits that have this name.
pub fn words(name: &str) -> impl Iterator<Item = (&'static Word, u32)> {
    let word = move |word: &'static Word| {
        let bits = (0..).zip(word.names()).filter(move |(_, known)| *known == name);
        (word, bits.fold(0, |mask, (bit, _)| mask | 1_u32 << bit))
    };
    table::WORDS.iter().map(word).filter(|(_, mask)| *mask != 0)
}

/// All names.
pub fn names() -> impl Iterator<Item = &'static str> {
    let names = table::WORDS.iter().flat_map(Word::names);
    names.filter(|name| *name != table::NONE)
}

/// QEMU's own name for what was typed: `_` is `-`.
fn find(typed: &str) -> Result<&'static str, FeatureError> {
    let name = typed.replace('_', "-");
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    let name = alias.map_or(name.as_str(), |(_, name)| name);
    match names().find(|known| *known == name) {
        Some(name) if BY_TOPOLOGY.contains(&name) => Err(FeatureError::Topology { name }),
        Some(name) => Ok(name),
        None if name.starts_with("vmx-") || IN_MSRS.split_whitespace().any(|known| known == name) => {
            Err(FeatureError::Msr {
                name: typed.to_owned(),
            })
        }
        None => Err(FeatureError::Unknown {
            name: typed.to_owned(),
            near: String::new(),
        }),
    }
}

#[cfg(test)]
mod tests;
