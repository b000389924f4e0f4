//! The KVM of this host: whether it is there, whether it can run a kernel, and its file descriptor.

pub mod cpuid;
pub mod irq;
pub mod kick;
pub mod machine_check;
pub mod setup;
pub mod stats;
pub mod vcpu;
pub mod vm;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use kvm_ioctls::{Cap, Kvm};

use crate::topology::Topology;

/// The device file of KVM.
const DEVICE: &str = "/dev/kvm";

/// What Ballast cannot do without. All are older than Linux 4.10.
const NEEDED: &[(Cap, &str)] = &[
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::IrqRouting, "KVM_CAP_IRQ_ROUTING"),
    (Cap::Pit2, "KVM_CAP_PIT2"),
    (Cap::SetTssAddr, "KVM_CAP_SET_TSS_ADDR"),
    (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
    (Cap::SyncMmu, "KVM_CAP_SYNC_MMU"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// Why the KVM of this host cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no device file.
    #[error(
        "no {DEVICE}: load the module of this processor (modprobe kvm_amd or kvm_intel), after virtualisation is switched on \
         in the firmware, or in the hypervisor when this host is a guest itself"
    )]
    Missing,
    /// The user may not open it.
    #[error(
        "no permission to open {DEVICE}: it belongs to group '{group}'; join it with: usermod -aG {group} {user}"
    )]
    Permission {
        /// Group of the device file.
        group: String,
        /// Who asks.
        user: String,
    },
    /// It cannot be opened for another reason.
    #[error("cannot open {DEVICE}")]
    Open(#[source] io::Error),
    /// It is not the KVM API that every kernel since 2.6.22 has.
    #[error("{DEVICE} speaks version {found} of the KVM API, not 12")]
    Version {
        /// What it says.
        found: i32,
    },
    /// A capability is missing.
    #[error("the KVM of this kernel lacks {0}")]
    Capability(&'static str),
    /// It emulates guest kernels instead of running them.
    #[error(
        "the KVM of this host cannot run a guest kernel: the processor offers neither vmx (Intel VT-x) nor svm (AMD-V), so \
         this is a software KVM that emulates kernel code and lacks many instructions; run on a host with hardware \
         virtualisation, or, when this host is a guest, switch on nested virtualisation"
    )]
    Software,
    /// More vCPUs than it takes.
    #[error(
        "the guest has {asked}, but the KVM of this kernel takes no more than {most} (KVM_CAP_MAX_VCPUS)"
    )]
    Vcpus {
        /// What the guest is to have.
        asked: Topology,
        /// What there may be.
        most: usize,
    },
    /// A vCPU's number is too high.
    #[error(
        "the guest has {asked}, the last with APIC id {id}, but the KVM of this kernel takes ids below {limit} only \
         (KVM_CAP_MAX_VCPU_ID)"
    )]
    VcpuId {
        /// What the guest is to have.
        asked: Topology,
        /// Its highest id.
        id: u32,
        /// The first that is refused.
        limit: usize,
    },
    /// The flags of the processor could not be read.
    #[error("cannot read /proc/cpuinfo")]
    CpuInfo(#[source] io::Error),
}

/// Opens KVM and checks that it has all that a machine is made of.
pub fn open() -> Result<Kvm, Error> {
    let kvm = Kvm::new().map_err(|error| open_error(io::Error::from_raw_os_error(error.errno())))?;
    match kvm.get_api_version() {
        12 => {}
        found => return Err(Error::Version { found }),
    }
    if let Some((_, name)) = NEEDED.iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
        return Err(Error::Capability(name));
    }
    Ok(kvm)
}

/// What a KVM says of numbers of vCPUs.
#[derive(Clone, Copy, Debug)]
struct VcpuLimits {
    /// KVM_CAP_NR_VCPUS: more than these take turns on the processors.
    recommended: usize,
    /// KVM_CAP_MAX_VCPUS.
    most: usize,
    /// KVM_CAP_MAX_VCPU_ID.
    ids: usize,
}

/// Checks that KVM takes these vCPUs. Returns a warning where there is something to say.
pub fn check_vcpus(kvm: &Kvm, topology: Topology) -> Result<Option<String>, Error> {
    let limits = VcpuLimits {
        recommended: kvm.get_nr_vcpus(),
        most: kvm.get_max_vcpus(),
        ids: kvm.get_max_vcpu_id(),
    };
    limits.check(topology)
}

impl VcpuLimits {
    fn check(self, asked: Topology) -> Result<Option<String>, Error> {
        let vcpus = asked.vcpus();
        // There is at least one, and they are numbered upwards.
        let id = asked.apic_id(vcpus.saturating_sub(1));
        let VcpuLimits {
            recommended,
            most,
            ids: limit,
        } = self;
        if usize::from(vcpus) > most {
            return Err(Error::Vcpus { asked, most });
        }
        if usize::try_from(id).map_or(true, |id| id >= limit) {
            return Err(Error::VcpuId { asked, id, limit });
        }
        let warning = || {
            format!(
                "the guest has {vcpus} vCPUs, but KVM recommends no more than {recommended} on this host: they share its processors"
            )
        };
        Ok((usize::from(vcpus) > recommended).then(warning))
    }
}

/// Checks that KVM runs Linux kernels on the processor rather than emulating them.
pub fn runs_kernels() -> Result<(), Error> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").map_err(Error::CpuInfo)?;
    if has_hardware_virtualisation(&cpuinfo) {
        Ok(())
    } else {
        Err(Error::Software)
    }
}

/// Whether the text of `/proc/cpuinfo` has the flag of Intel's or AMD's virtualisation.
fn has_hardware_virtualisation(cpuinfo: &str) -> bool {
    cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags")?.split_once(':'))
        .is_some_and(|(_, flags)| {
            flags
                .split_whitespace()
                .any(|flag| flag == "vmx" || flag == "svm")
        })
}

fn open_error(error: io::Error) -> Error {
    match error.raw_os_error() {
        // ENODEV and ENXIO: a device node without a driver behind it.
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => Error::Missing,
        Some(libc::EACCES | libc::EPERM) => Error::Permission {
            group: device_group(),
            user: user(),
        },
        _ => Error::Open(error),
    }
}

/// Name of the group that `/dev/kvm` belongs to, or its number.
fn device_group() -> String {
    let Ok(metadata) = fs::metadata(Path::new(DEVICE)) else {
        return "kvm".to_owned();
    };
    name_of(metadata.gid(), "/etc/group").unwrap_or_else(|| metadata.gid().to_string())
}

fn user() -> String {
    let uid = rustix::process::getuid().as_raw();
    name_of(uid, "/etc/passwd").unwrap_or_else(|| uid.to_string())
}

/// The name with number `id` in a file of the form of group(5) and passwd(5).
fn name_of(id: u32, file: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    })
}

#[cfg(test)]
mod tests;
