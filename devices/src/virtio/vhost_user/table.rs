//! The guest's memory as a daemon gets it: files, and what of them is where.

use std::os::fd::AsRawFd;

use memory::ram::Ram;
use vhost::VhostUserMemoryRegionInfo;
use vm_memory::GuestAddress;

use super::error::VhostUserError;

/// All of a guest's RAM, in files that a daemon can map.
#[derive(Debug)]
pub(super) struct Table(Ram);

impl Table {
    /// The memory of `ram`.
    ///
    /// # Errors
    /// [`VhostUserError::NotShared`] where some of it is nobody else's to map.
    pub(super) fn new(ram: Ram) -> Result<Table, VhostUserError> {
        let private = ram
            .backends()
            .iter()
            .find(|backend| backend.shared_file().is_none());
        match private.map(|backend| backend.spec().id.clone()) {
            Some(backend) => Err(VhostUserError::NotShared { backend }),
            None => Ok(Table(ram)),
        }
    }

    pub(super) fn ram(&self) -> &Ram {
        &self.0
    }

    /// The pieces, by guest address; a backend around the 32-bit hole has two. The descriptors in them are good for as long
    /// as the table.
    pub(super) fn regions(&self) -> Vec<VhostUserMemoryRegionInfo> {
        let piece = |region: &memory::Region| {
            let (file, start) = self.0.backends().get(region.backend())?.shared_file()?;
            Some(VhostUserMemoryRegionInfo {
                guest_phys_addr: region.guest().start.0,
                memory_size: region.guest().len,
                userspace_addr: region.host_address(),
                mmap_offset: start + region.offset(),
                mmap_handle: file.as_raw_fd(),
            })
        };
        self.0.regions().iter().filter_map(piece).collect()
    }

    /// Our own address of the `len` bytes that the guest has at `address`: rings are named by it. A daemon has a mapping of its own
    /// for each piece, and what goes on in the next piece would be beyond the first for it.
    pub(super) fn host_address(&self, address: u64, len: u64) -> Result<u64, VhostUserError> {
        let place = self.0.region_at(GuestAddress(address)).and_then(|region| {
            let offset = address - region.guest().start.0;
            (len <= region.guest().len - offset).then(|| region.host_address() + offset)
        });
        place.ok_or(VhostUserError::RingOutside { address })
    }
}

#[cfg(test)]
mod tests;
