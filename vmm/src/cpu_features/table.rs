//! Where CPUID tells of features: Intel's manual volume 2A, CPUID; AMD's manual volume 3, appendix E; for KVM's own leaf
//! Documentation/virt/kvm/x86/cpuid.rst of Linux.

/// Stands for a bit without a name.
pub(super) const NONE: &str = "-";

/// One of the four registers that CPUID fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// EAX.
    Eax,
    /// EBX.
    Ebx,
    /// ECX.
    Ecx,
    /// EDX.
    Edx,
}

/// A register of a leaf whose bits are features.
#[derive(Debug, PartialEq, Eq)]
pub struct Word {
    /// EAX before the instruction.
    pub leaf: u32,
    /// ECX before the instruction, where the leaf has several.
    pub index: u32,
    /// Where the bits are.
    pub register: Register,
    /// Names of the bits from bit 0 on; those at the end may be missing.
    names: &'static str,
}

impl Word {
    /// The names of its bits from bit 0 on.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.names.split_whitespace()
    }
}

const fn word(leaf: u32, index: u32, register: Register, names: &'static str) -> Word {
    Word {
        leaf,
        index,
        register,
        names,
    }
}

/// All there are. What the operating system switches on (OSXSAVE, OSPKE) has no name, and neither have a processor's duplicates of
/// leaf 1 in leaf 0x80000001.
#[rustfmt::skip]
pub(super) const WORDS: &[Word] = &[
    word(0x1, 0, Register::Edx,
        "fpu vme de pse tsc msr pae mce cx8 apic - sep mtrr pge mca cmov \
         pat pse36 pn clflush - ds acpi mmx fxsr sse sse2 ss ht tm ia64 pbe"),
    word(0x1, 0, Register::Ecx,
        "pni pclmulqdq dtes64 monitor ds-cpl vmx smx est tm2 ssse3 cid - fma cx16 xtpr pdcm \
         - pcid dca sse4.1 sse4.2 x2apic movbe popcnt tsc-deadline aes xsave - avx f16c rdrand hypervisor"),
    word(0x6, 0, Register::Eax, "- - arat"),
    word(0x7, 0, Register::Ebx,
        "fsgsbase tsc-adjust sgx bmi1 hle avx2 - smep bmi2 erms invpcid rtm - - mpx - \
         avx512f avx512dq rdseed adx smap avx512ifma pcommit clflushopt clwb intel-pt avx512pf avx512er avx512cd sha-ni avx512bw avx512vl"),
    word(0x7, 0, Register::Ecx,
        "- avx512vbmi umip pku - waitpkg avx512vbmi2 shstk gfni vaes vpclmulqdq avx512vnni avx512bitalg - avx512-vpopcntdq - \
         la57 - - - - - rdpid - bus-lock-detect cldemote - movdiri movdir64b - sgxlc pks"),
    word(0x7, 0, Register::Edx,
        "- - avx512-4vnniw avx512-4fmaps fsrm - - - avx512-vp2intersect - md-clear - - - serialize - \
         tsx-ldtrk - - arch-lbr ibt - amx-bf16 avx512-fp16 amx-tile amx-int8 spec-ctrl stibp flush-l1d arch-capabilities core-capability ssbd"),
    word(0x7, 1, Register::Eax,
        "sha512 sm3 sm4 - avx-vnni avx512-bf16 lass cmpccxadd - - fzrm fsrs fsrc - - - \
         - fred lkgs wrmsrns - amx-fp16 - avx-ifma - - lam"),
    word(0x7, 1, Register::Edx,
        "- - - - avx-vnni-int8 avx-ne-convert - - amx-complex - avx-vnni-int16 - - - prefetchiti - - - - avx10"),
    word(0x7, 2, Register::Edx, "intel-psfd ipred-ctrl rrsba-ctrl ddpd-u bhi-ctrl mcdt-no"),
    word(0xd, 1, Register::Eax, "xsaveopt xsavec xgetbv1 xsaves xfd"),
    word(0x12, 0, Register::Eax, "sgx1 sgx2 - - - - - - - - - sgx-edeccssa"),
    word(0x12, 0, Register::Ebx, "sgx-exinfo"),
    word(0x12, 1, Register::Eax, "- sgx-debug sgx-mode64 - sgx-provisionkey sgx-tokenkey - sgx-kss - - sgx-aex-notify"),
    word(0x14, 0, Register::Ecx, "- - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - intel-pt-lip"),
    word(0x4000_0001, 0, Register::Eax,
        "kvmclock kvm-nopiodelay kvm-mmu kvmclock kvm-asyncpf kvm-steal-time kvm-pv-eoi kvm-pv-unhalt \
         - kvm-pv-tlb-flush kvm-asyncpf-vmexit kvm-pv-ipi kvm-poll-control kvm-pv-sched-yield kvm-asyncpf-int kvm-msi-ext-dest-id \
         - - - - - - - - kvmclock-stable-bit"),
    word(0x4000_0001, 0, Register::Edx, "kvm-hint-dedicated"),
    word(0x8000_0001, 0, Register::Edx,
        "- - - - - - - - - - - syscall - - - - - - - - nx - mmxext - - fxsr-opt pdpe1gb rdtscp - lm 3dnowext 3dnow"),
    word(0x8000_0001, 0, Register::Ecx,
        "lahf-lm cmp-legacy svm extapic cr8legacy abm sse4a misalignsse 3dnowprefetch osvw ibs xop skinit wdt - lwp \
         fma4 tce - nodeid-msr - tbm topoext perfctr-core perfctr-nb"),
    word(0x8000_0007, 0, Register::Ebx, "overflow-recov succor"),
    word(0x8000_0007, 0, Register::Edx, "- - - - - - - - invtsc"),
    word(0x8000_0008, 0, Register::Ebx,
        "clzero - xsaveerptr - - - - - - wbnoinvd - - ibpb - ibrs amd-stibp \
         - stibp-always-on - - - - - - amd-ssbd virt-ssbd amd-no-ssb - amd-psfd"),
    word(0x8000_000a, 0, Register::Edx,
        "npt lbrv svm-lock nrip-save tsc-scale vmcb-clean flushbyasid decodeassists - - pause-filter - pfthreshold avic - v-vmsave-vmload \
         vgif - - - - - - - - vnmi - - svme-addr-chk"),
    word(0x8000_0021, 0, Register::Eax,
        "no-nested-data-bp fs-gs-base-ns lfence-always-serializing - - verw-clear null-sel-clr-base - auto-ibrs - - - - - - - \
         - - - - prefetchi - - - eraps - - sbpb ibpb-brtype srso-no srso-user-kernel-no"),
    word(0x8000_0021, 0, Register::Ecx, "- tsa-sq-no tsa-l1-no"),
    word(0x8000_0022, 0, Register::Eax, "perfmon-v2"),
    word(0xc000_0001, 0, Register::Edx, "- - xstore xstore-en - - xcrypt xcrypt-en ace2 ace2-en phe phe-en pmm pmm-en"),
];
