//! How a vCPU's page faults went, from KVM's binary statistics (Documentation/virt/kvm/api.rst 4.133).

use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

use kvm_ioctls::VcpuFd;
use vmm_sys_util::ioctl::ioctl;

/// `_IO(KVMIO, 0xce)` of linux/kvm.h.
const KVM_GET_STATS_FD: libc::c_ulong = 0xaece;

/// Bytes of a descriptor before its name (struct kvm_stats_desc), and where its offset stands.
const DESCRIPTOR: usize = 16;
const DESCRIPTOR_OFFSET: usize = 8;
/// Counters of faults that KVM took, and of those that it brought to an end.
const TAKEN: &str = "pf_taken";
const SERVED: [&str; 3] = ["pf_fixed", "pf_spurious", "pf_emulate"];

/// Page faults of one vCPU. A fault that is tried again is taken again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultCount {
    /// Taken by KVM.
    pub taken: u64,
    /// Brought to an end.
    pub served: u64,
}

/// The page-fault counters of one vCPU.
#[derive(Debug)]
pub struct FaultStats {
    file: File,
    taken: u64,
    served: Vec<u64>,
}

impl FaultStats {
    /// For `vcpu`, which must not be running: the request waits for it otherwise.
    ///
    /// # Errors
    /// When this KVM has no statistics (Linux before 5.14), or not these.
    pub fn new(vcpu: &VcpuFd) -> io::Result<FaultStats> {
        // SAFETY: the request takes no argument and returns a new descriptor or -1.
        let fd = unsafe { ioctl(vcpu, KVM_GET_STATS_FD) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was returned just now; nobody else owns it.
        let file = unsafe { File::from_raw_fd(fd) };
        let names = descriptors(&file)?;
        let find = |name: &str| {
            let found = names
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, offset)| *offset);
            found.ok_or_else(|| io::Error::other(format!("this KVM does not count {name}")))
        };
        let served = SERVED
            .iter()
            .map(|name| find(name))
            .collect::<io::Result<Vec<u64>>>()?;
        Ok(FaultStats {
            taken: find(TAKEN)?,
            served,
            file,
        })
    }

    /// How many faults there were since the vCPU was made.
    pub fn count(&self) -> io::Result<FaultCount> {
        let mut served = 0_u64;
        for offset in &self.served {
            served = served.saturating_add(read_u64(&self.file, *offset)?);
        }
        Ok(FaultCount {
            taken: read_u64(&self.file, self.taken)?,
            served,
        })
    }
}

/// Names of all statistics, and where in the file their values stand.
fn descriptors(file: &File) -> io::Result<Vec<(String, u64)>> {
    // struct kvm_stats_header: flags, name_size, num_desc, id_offset, desc_offset, data_offset.
    let mut header = [0; 24];
    file.read_exact_at(&mut header, 0)?;
    let (words, _) = header.as_chunks::<4>();
    let word = |index: usize| u32::from_ne_bytes(words[index]);
    let (name_size, count, start, data) = (word(1), word(2), word(4), word(5));
    let size = DESCRIPTOR + usize::try_from(name_size).map_err(io::Error::other)?;
    let mut names = Vec::new();
    for index in 0..u64::from(count) {
        let mut descriptor = vec![0; size];
        file.read_exact_at(&mut descriptor, u64::from(start) + index * size as u64)?;
        let at: [u8; 4] = descriptor[DESCRIPTOR_OFFSET..]
            .first_chunk()
            .copied()
            .unwrap_or_default();
        let name = descriptor[DESCRIPTOR..]
            .split(|byte| *byte == 0)
            .next()
            .unwrap_or_default();
        let name = String::from_utf8_lossy(name).into_owned();
        names.push((name, u64::from(data) + u64::from(u32::from_ne_bytes(at))));
    }
    Ok(names)
}

fn read_u64(file: &File, offset: u64) -> io::Result<u64> {
    let mut value = [0; 8];
    file.read_exact_at(&mut value, offset)?;
    Ok(u64::from_ne_bytes(value))
}

#[cfg(test)]
mod tests;
