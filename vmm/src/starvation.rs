//! A page of guest memory that the host could not supply: who needed it, and which backend is short.

pub mod watch;

use std::fmt;

use memory::ram::{OpenBackend, Ram};
use vm_memory::GuestAddress;

/// What is known at the moment it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starvation {
    /// The vCPU that needed the page; none when a device did.
    pub vcpu: Option<u8>,
    /// The guest address; KVM does not always tell it.
    pub address: Option<GuestAddress>,
}

impl Starvation {
    /// Met by a vCPU.
    pub fn of_vcpu(vcpu: u8, address: Option<GuestAddress>) -> Starvation {
        Starvation {
            vcpu: Some(vcpu),
            address,
        }
    }

    /// Met by a thread of ours, at an address of guest memory.
    pub fn of_device(address: GuestAddress) -> Starvation {
        Starvation {
            vcpu: None,
            address: Some(address),
        }
    }

    /// Finds out which backend is short.
    pub fn diagnose(self, ram: &Ram) -> Diagnosis {
        let by_address = self
            .address
            .and_then(|address| ram.region_at(address))
            .map(|region| region.backend());
        // Without an address: only huge pages run out while ordinary ones do not, and a pool tells whether it is empty.
        let index = by_address
            .or_else(|| ram.backends().iter().position(OpenBackend::is_dry))
            .or_else(|| (ram.backends().len() == 1).then_some(0));
        let backend = index.and_then(|index| ram.backends().get(index));
        Diagnosis {
            starvation: self,
            backend: backend.map(|backend| backend.spec().id.clone()),
            page_size: backend.map(|backend| backend.page_size().bytes()),
            nodes: backend.map(|backend| backend.spec().policy.to_string()),
            pool: backend
                .and_then(|backend| backend.shortage())
                .map(|shortage| shortage.to_string()),
        }
    }
}

/// A [`Starvation`] with everything that a person, or an event, shall be told.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    /// Who met it, and where.
    pub starvation: Starvation,
    /// Id of the backend that is short, where that could be found out.
    pub backend: Option<String>,
    /// Bytes of one of its pages.
    pub page_size: Option<u64>,
    /// Its host nodes, as its policy says.
    pub nodes: Option<String>,
    /// State of its pool of huge pages.
    pub pool: Option<String>,
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the host cannot supply guest memory ")?;
        match self.starvation.address {
            Some(address) => write!(f, "at guest address {:#x}", address.0)?,
            None => write!(f, "(KVM does not tell the guest address)")?,
        }
        match self.starvation.vcpu {
            Some(vcpu) => write!(f, ", needed by vCPU {vcpu}")?,
            None => write!(f, ", needed by a device")?,
        }
        if let Some(backend) = &self.backend {
            write!(f, ", of backend '{backend}'")?;
        }
        if let Some(nodes) = &self.nodes {
            write!(f, ", policy {nodes}")?;
        }
        if let Some(pool) = &self.pool {
            write!(f, ": {pool}")?;
        }
        Ok(())
    }
}
