//! A page of guest memory that the host could not supply: who needed it, which backend is short, and why.

pub mod broken;
pub mod watch;

use std::fmt;

use memory::backend::Lack;
use memory::ram::{OpenBackend, Ram};
use vm_memory::GuestAddress;

/// Who met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// The vCPU with this index.
    Vcpu(u8),
    /// A thread of ours that does a device's work.
    Device,
    /// The reset of the machine, which loads the kernel again.
    Reset,
    /// Nobody yet: the main loop saw it coming.
    Nobody,
}

/// What is known at the moment it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starvation {
    witness: Witness,
    /// The guest address; KVM does not always tell it.
    address: Option<GuestAddress>,
    /// The page is there, but its memory is broken.
    broken: bool,
}

impl Starvation {
    /// A page that could not be had.
    pub fn new(witness: Witness, address: Option<GuestAddress>) -> Starvation {
        Starvation {
            witness,
            address,
            broken: false,
        }
    }

    /// A broken page that a thread of ours needs.
    pub fn broken(address: GuestAddress) -> Starvation {
        Starvation {
            broken: true,
            ..Starvation::new(Witness::Device, Some(address))
        }
    }

    /// Finds out which backend is short, and of what.
    pub fn diagnose(self, ram: &Ram) -> Diagnosis {
        let lacks: Vec<Option<Lack>> = ram.backends().iter().map(OpenBackend::lack).collect();
        let by_address = self
            .address
            .and_then(|address| ram.region_at(address))
            .map(|region| region.backend());
        let first =
            |wanted: fn(&Lack) -> bool| lacks.iter().position(|lack| lack.as_ref().is_some_and(wanted));
        // Without an address: what has lost something, what lacks something, or what there is.
        let index = by_address
            .or_else(|| first(Lack::is_loss))
            .or_else(|| first(|_| true))
            .or_else(|| (ram.backends().len() == 1).then_some(0));
        let backend = index.and_then(|index| ram.backends().get(index));
        let lack = index.and_then(|index| lacks.get(index).cloned()).flatten();
        Diagnosis {
            starvation: self,
            backend: backend.map(|backend| backend.spec().id.clone()),
            page_size: backend.map(|backend| backend.page_size().bytes()),
            policy: backend.map(|backend| backend.spec().policy.to_string()),
            host_nodes: backend
                .and_then(|backend| Some(backend.spec().policy.bound()?.iter().collect()))
                .unwrap_or_default(),
            pool: backend
                .and_then(OpenBackend::shortage)
                .map(|pool| pool.to_string()),
            // Whatever else was lost in another backend, the guest is without it too.
            data_lost: self.broken || lacks.iter().flatten().any(Lack::is_loss),
            lack,
        }
    }
}

/// A [`Starvation`] with everything that a person, or an event, shall be told.
#[derive(Clone, Debug)]
pub struct Diagnosis {
    starvation: Starvation,
    /// Id of the backend that is short, where that could be found out.
    pub backend: Option<String>,
    /// Bytes of one of its pages.
    pub page_size: Option<u64>,
    /// Its policy.
    pub policy: Option<String>,
    /// The only host nodes that its pages may come from; empty where all may serve.
    pub host_nodes: Vec<u32>,
    /// State of its pool of huge pages.
    pub pool: Option<String>,
    /// What it lacks.
    pub lack: Option<Lack>,
    /// Whether data of the guest is gone for good.
    pub data_lost: bool,
}

impl Diagnosis {
    /// The guest address, where it is known.
    pub fn address(&self) -> Option<GuestAddress> {
        self.starvation.address
    }

    /// The vCPU that needed the page, if one did.
    pub fn vcpu(&self) -> Option<u8> {
        match self.starvation.witness {
            Witness::Vcpu(index) => Some(index),
            Witness::Device | Witness::Reset | Witness::Nobody => None,
        }
    }

    /// Why the page cannot be had, in one word; none where nothing shows it.
    pub fn cause(&self) -> Option<&'static str> {
        if self.starvation.broken {
            return Some("page-broken");
        }
        self.lack.as_ref().map(Lack::as_str)
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let starvation = self.starvation;
        f.write_str(match (starvation.broken, self.data_lost) {
            (true, _) => "guest memory is broken",
            (false, true) => "guest memory is lost",
            (false, false) => "the host cannot supply guest memory",
        })?;
        if let Some(address) = starvation.address {
            write!(f, " at guest address {:#x}", address.0)?;
        }
        match starvation.witness {
            Witness::Vcpu(vcpu) => write!(f, ", needed by vCPU {vcpu}")?,
            Witness::Device => write!(f, ", needed by a device")?,
            Witness::Reset => write!(f, ", needed by the reset")?,
            Witness::Nobody => {}
        }
        if let Some(backend) = &self.backend {
            write!(f, ", of backend '{backend}'")?;
        }
        if let Some(policy) = &self.policy {
            write!(f, ", policy {policy}")?;
        }
        match (&self.lack, &self.pool) {
            (Some(lack), _) => write!(f, ": {lack}"),
            (None, Some(pool)) => write!(f, ": {pool}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
