//! Accesses to RAM that came out of KVM as if nobody were there.

use std::io;

use memory::ram::Ram;
use vm_memory::GuestAddress;

use crate::host::guest_copy;

/// An access to RAM that KVM could not make and handed out as if it were MMIO; its instruction is over, so it is made up
/// for here.
#[derive(Debug)]
pub(super) struct Lost {
    /// The guest address.
    pub(super) address: GuestAddress,
    length: usize,
    written: Option<[u8; 8]>,
}

impl Lost {
    /// A read of up to eight bytes.
    pub(super) fn read(address: GuestAddress, length: usize) -> Lost {
        Lost {
            address,
            length,
            written: None,
        }
    }

    /// A write of these bytes, at most eight.
    pub(super) fn write(address: GuestAddress, data: &[u8]) -> Lost {
        let mut written = [0; 8];
        written[..data.len()].copy_from_slice(data);
        Lost {
            written: Some(written),
            ..Lost::read(address, data.len())
        }
    }

    /// Whether the guest waits for a value.
    pub(super) fn is_read(&self) -> bool {
        self.written.is_none()
    }

    /// Does it now, in this thread, which must not wait for the page: it is one that stops with the machine. Returns what was
    /// read or written.
    pub(super) fn repeat(&self, ram: &Ram) -> io::Result<[u8; 8]> {
        let mut data = self.written.unwrap_or_default();
        let bytes = &mut data[..self.length];
        match self.written {
            Some(_) => guest_copy::write(ram, self.address, bytes)?,
            None => guest_copy::read(ram, self.address, bytes)?,
        }
        Ok(data)
    }
}
