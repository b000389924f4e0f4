//! The state in which a vCPU starts: what firmware would have left behind.

use boot::page_tables::{CODE_SELECTOR, DATA_SELECTOR, TSS_SELECTOR};
use boot::{Entry, EntryMode};
use kvm_bindings::{Msrs, kvm_fpu, kvm_lapic_state, kvm_msr_entry, kvm_regs, kvm_segment};
use kvm_ioctls::VcpuFd;

/// Why a vCPU could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// KVM refused a set of registers.
    #[error("KVM refused the {registers} of a vCPU")]
    Registers {
        /// Which.
        registers: &'static str,
        /// Its answer.
        source: kvm_ioctls::Error,
    },
    /// The list of MSRs could not be made.
    #[error("the MSR list of a vCPU is too long")]
    MsrList,
}

fn refused(registers: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> Error {
    move |source| Error::Registers { registers, source }
}

/// IA32_MISC_ENABLE, and its bit for fast string operations.
const MSR_MISC_ENABLE: u32 = 0x1a0;
const FAST_STRINGS: u64 = 1;
/// IA32_MTRR_DEF_TYPE: MTRRs on, everything else write-back.
const MSR_MTRR_DEF_TYPE: u32 = 0x2ff;
const MTRR_ON_WRITE_BACK: u64 = 0x806;

/// Local APIC registers LVT LINT0 and LINT1, and the delivery modes that firmware leaves in them.
const APIC_LVT_LINT0: usize = 0x350;
const APIC_LVT_LINT1: usize = 0x360;
const DELIVER_EXTINT: u32 = 0x700;
const DELIVER_NMI: u32 = 0x400;

/// CR0: protection, extension type, numeric errors, paging.
const CR0_PE: u64 = 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_PG: u64 = 1 << 31;
/// CR4: physical address extension.
const CR4_PAE: u64 = 1 << 5;
/// EFER: long mode enabled and active.
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// What every vCPU gets: MSRs and the local APIC's pins. MSRs that this KVM does not have are left alone.
pub fn common(vcpu: &VcpuFd) -> Result<(), Error> {
    for (index, data) in [
        (MSR_MISC_ENABLE, FAST_STRINGS),
        (MSR_MTRR_DEF_TYPE, MTRR_ON_WRITE_BACK),
    ] {
        let entry = kvm_msr_entry {
            index,
            data,
            ..Default::default()
        };
        let msrs = Msrs::from_entries(&[entry]).map_err(|_| Error::MsrList)?;
        match vcpu.set_msrs(&msrs) {
            Ok(1) => {}
            Ok(_) => tracing::debug!("this KVM has no MSR {index:#x}"),
            Err(source) => return Err(refused("MSRs")(source)),
        }
    }
    let mut lapic = vcpu.get_lapic().map_err(refused("local APIC"))?;
    set_lvt(&mut lapic, APIC_LVT_LINT0, DELIVER_EXTINT);
    set_lvt(&mut lapic, APIC_LVT_LINT1, DELIVER_NMI);
    vcpu.set_lapic(&lapic).map_err(refused("local APIC"))
}

/// Replaces the delivery mode (bits 10:8) of a local vector table entry and clears its mask.
fn set_lvt(lapic: &mut kvm_lapic_state, offset: usize, mode: u32) {
    for (byte, value) in lapic.regs[offset..offset + 4].iter_mut().zip(mode.to_le_bytes()) {
        // KVM's registers are signed bytes.
        *byte = i8::from_le_bytes([value]);
    }
}

/// What the first vCPU gets besides: registers as the boot protocol of the kernel wants them. The others wait for the
/// start-up interrupt that the kernel sends.
pub fn entry(vcpu: &VcpuFd, entry: &Entry) -> Result<(), Error> {
    let mut sregs = vcpu.get_sregs().map_err(refused("system registers"))?;
    let long_mode = matches!(entry.mode, EntryMode::Linux64);
    // Boot protocol 64-bit entry (Documentation/arch/x86/boot.rst) and PVH (xen/include/public/arch-x86/hvm/start_info.h)
    // both want flat segments; selectors are those of boot's GDT.
    let code = kvm_segment {
        l: u8::from(long_mode),
        db: u8::from(!long_mode),
        ..segment(CODE_SELECTOR, 0xb)
    };
    let data = segment(DATA_SELECTOR, 0x3);
    (sregs.cs, sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss) = (code, data, data, data, data, data);
    sregs.tr = kvm_segment {
        s: 0,
        g: 0,
        db: 0,
        limit: 0x67,
        ..segment(TSS_SELECTOR, 0xb)
    };
    sregs.gdt.base = entry.gdt;
    sregs.gdt.limit = entry.gdt_limit;
    (sregs.idt.base, sregs.idt.limit) = (0, 0);
    sregs.cr0 = CR0_PE | CR0_ET | CR0_NE;
    if long_mode {
        sregs.cr0 |= CR0_PG;
        sregs.cr3 = entry.cr3;
        sregs.cr4 |= CR4_PAE;
        sregs.efer |= EFER_LME | EFER_LMA;
    }
    vcpu.set_sregs(&sregs).map_err(refused("system registers"))?;

    let rbx = match entry.mode {
        EntryMode::Linux64 => 0,
        EntryMode::Pvh { rbx } => rbx,
    };
    let regs = kvm_regs {
        rip: entry.rip,
        rsi: entry.rsi,
        rbx,
        rflags: 2,
        ..Default::default()
    };
    vcpu.set_regs(&regs).map_err(refused("registers"))?;
    // The values of FNINIT, and MXCSR as after reset.
    let fpu = kvm_fpu {
        fcw: 0x37f,
        mxcsr: 0x1f80,
        ..Default::default()
    };
    vcpu.set_fpu(&fpu).map_err(refused("floating-point registers"))
}

/// A flat, present, ring-0 segment of 4 GiB.
fn segment(selector: u16, type_: u8) -> kvm_segment {
    kvm_segment {
        selector,
        type_,
        limit: 0xffff_ffff,
        present: 1,
        s: 1,
        g: 1,
        db: 1,
        ..Default::default()
    }
}
