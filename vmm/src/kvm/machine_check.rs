//! Machine checks: telling a guest that memory it touched is broken (Intel SDM vol. 3B ch. 16, AMD APM vol. 2 ch. 9).

use std::io;

use kvm_bindings::{Msrs, kvm_msr_entry, kvm_x86_mce};
use kvm_ioctls::VcpuFd;
use vm_memory::GuestAddress;
use vmm_sys_util::ioctl::ioctl_with_ref;

/// `_IOW(KVMIO, 0x9c, __u64)` and `_IOW(KVMIO, 0x9e, struct kvm_x86_mce)` of linux/kvm.h.
const KVM_X86_SETUP_MCE: libc::c_ulong = 0x4008_ae9c;
const KVM_X86_SET_MCE: libc::c_ulong = 0x4040_ae9e;

/// IA32_MCG_CAP: how many banks, IA32_MCG_CTL is there, software can recover (Intel).
const BANKS: u64 = 10;
const MCG_CTL_P: u64 = 1 << 8;
const MCG_SER_P: u64 = 1 << 24;
/// The bank that reports memory. Not one of the first, which Linux treats in special ways on some processors.
const BANK: u8 = 9;

const MSR_MCG_STATUS: u32 = 0x17a;
const MSR_MCG_CTL: u32 = 0x17b;
/// IA32_MC9_CTL: four registers a bank.
const MSR_BANK_CTL: u32 = 0x400 + 4 * 9;
const CR4_MCE: u64 = 1 << 6;

/// IA32_MCG_STATUS: the interrupted program may go on, and is the one that met the error; a machine check is in progress.
const MCG_RIPV: u64 = 1 << 0;
const MCG_EIPV: u64 = 1 << 1;
const MCG_MCIP: u64 = 1 << 2;

/// IA32_MCi_STATUS: valid, uncorrected, enabled, MISC and ADDR are valid.
const STATUS_VALID: u64 = 1 << 63;
const STATUS_UNCORRECTED: u64 = 1 << 61;
const STATUS_ENABLED: u64 = 1 << 60;
const STATUS_MISC: u64 = 1 << 59;
const STATUS_ADDRESS: u64 = 1 << 58;
/// Intel: signalled, and software must act before it goes on; a load of data from memory.
const STATUS_SIGNALLED: u64 = 1 << 56;
const STATUS_ACTION: u64 = 1 << 55;
const CODE_DATA_LOAD: u64 = 0x134;
/// AMD: poisoned data was consumed; a memory error in a data read by the core.
const STATUS_POISON: u64 = 1 << 43;
const CODE_MEMORY: u64 = 0x011b;
/// IA32_MCi_MISC: the address is a physical one, and its lowest valid bit is 12.
const MISC_PHYSICAL_PAGE: u64 = (2 << 6) | 12;

/// What became of a guest that touched a broken page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It gets a machine check.
    MachineCheck,
    /// It cannot take one: a processor would shut down. `recursive`: because it is busy with another.
    Shutdown {
        /// Whether another machine check is in progress.
        recursive: bool,
    },
}

/// Gives a vCPU its banks of error registers.
///
/// # Errors
/// What KVM says.
pub fn set_up(vcpu: &VcpuFd, amd: bool) -> io::Result<()> {
    let capability = BANKS | MCG_CTL_P | if amd { 0 } else { MCG_SER_P };
    // SAFETY: KVM reads eight bytes from the reference.
    check(unsafe { ioctl_with_ref(vcpu, KVM_X86_SETUP_MCE, &capability) })
}

/// Gives the guest a machine check for the page at `address`, which its current instruction on this vCPU needs. The vCPU must
/// not be running.
///
/// # Errors
/// What KVM says.
pub fn inject(vcpu: &VcpuFd, amd: bool, address: GuestAddress) -> io::Result<Told> {
    let [status, control, bank_control] = read(vcpu, [MSR_MCG_STATUS, MSR_MCG_CTL, MSR_BANK_CTL])?;
    let recursive = status & MCG_MCIP != 0;
    let listens = vcpu.get_sregs()?.cr4 & CR4_MCE != 0;
    // KVM drops an error of a bank that is not wholly enabled, and the guest would meet the page again and again.
    if recursive || !listens || control != u64::MAX || bank_control != u64::MAX {
        return Ok(Told::Shutdown { recursive });
    }
    let error = error(amd, address);
    // SAFETY: KVM reads a kvm_x86_mce from the reference.
    check(unsafe { ioctl_with_ref(vcpu, KVM_X86_SET_MCE, &error) })?;
    Ok(Told::MachineCheck)
}

fn error(amd: bool, address: GuestAddress) -> kvm_x86_mce {
    let vendor = if amd {
        STATUS_POISON | CODE_MEMORY
    } else {
        STATUS_SIGNALLED | STATUS_ACTION | CODE_DATA_LOAD
    };
    kvm_x86_mce {
        status: STATUS_VALID | STATUS_UNCORRECTED | STATUS_ENABLED | STATUS_MISC | STATUS_ADDRESS | vendor,
        addr: address.0,
        misc: MISC_PHYSICAL_PAGE,
        mcg_status: MCG_RIPV | MCG_EIPV | MCG_MCIP,
        bank: BANK,
        ..kvm_x86_mce::default()
    }
}

fn read<const N: usize>(vcpu: &VcpuFd, indices: [u32; N]) -> io::Result<[u64; N]> {
    let entry = |index| kvm_msr_entry {
        index,
        ..kvm_msr_entry::default()
    };
    let mut msrs = Msrs::from_entries(&indices.map(entry)).map_err(io::Error::other)?;
    let read = vcpu.get_msrs(&mut msrs)?;
    if read != N {
        let missing = indices.get(read).copied().unwrap_or_default();
        return Err(io::Error::other(format!("this KVM has no MSR {missing:#x}")));
    }
    let mut values = [0; N];
    for (value, entry) in values.iter_mut().zip(msrs.as_slice()) {
        *value = entry.data;
    }
    Ok(values)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
