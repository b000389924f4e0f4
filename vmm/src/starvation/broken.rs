//! Pages of the host whose memory is broken (hardware poison), and what became of whoever needed them.

use std::fmt;

use memory::ram::OpenBackend;
use vm_memory::GuestAddress;

/// What was done about it, as QMP's `MemoryFailureAction` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing yet: nobody has touched the page.
    Ignore,
    /// The guest got a machine check.
    Inject,
    /// A device cannot go on.
    Fatal,
    /// The guest could not be told, and is reset as a processor would be.
    Reset,
}

impl Action {
    /// Its name on the wire.
    pub fn as_qmp(self) -> &'static str {
        match self {
            Action::Ignore => "ignore",
            Action::Inject => "inject",
            Action::Fatal => "fatal",
            Action::Reset => "reset",
        }
    }
}

/// Whose page is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The guest's, at this guest address.
    Guest(GuestAddress),
    /// Ballast's own, at this host address.
    Ours(u64),
}

/// A broken page, and what was done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokenMemory {
    whose: Whose,
    vcpu: Option<u8>,
    action: Action,
    /// Whether the guest was busy with another machine check.
    recursive: bool,
}

impl BrokenMemory {
    /// Found before anybody touched it.
    pub fn found(address: GuestAddress) -> BrokenMemory {
        BrokenMemory {
            whose: Whose::Guest(address),
            vcpu: None,
            action: Action::Ignore,
            recursive: false,
        }
    }

    /// Found in memory of ours, before anybody touched it.
    pub fn ours(host_address: u64) -> BrokenMemory {
        BrokenMemory {
            whose: Whose::Ours(host_address),
            ..BrokenMemory::found(GuestAddress(0))
        }
    }

    /// Touched by a thread that does a device's work.
    pub fn touched_by_device(address: GuestAddress) -> BrokenMemory {
        BrokenMemory {
            action: Action::Fatal,
            ..BrokenMemory::found(address)
        }
    }

    /// Touched by the guest on a vCPU, and told to it if `action` says so.
    pub fn touched_by_vcpu(vcpu: u8, address: GuestAddress, action: Action, recursive: bool) -> BrokenMemory {
        BrokenMemory {
            vcpu: Some(vcpu),
            action,
            recursive,
            ..BrokenMemory::found(address)
        }
    }

    /// The guest address of a page of the guest.
    pub fn address(&self) -> Option<GuestAddress> {
        match self.whose {
            Whose::Guest(address) => Some(address),
            Whose::Ours(_) => None,
        }
    }

    /// What was done about it.
    pub fn action(&self) -> Action {
        self.action
    }

    /// With what is known of the backend that the page is of.
    pub fn report(&self, backend: Option<&OpenBackend>) -> BrokenReport {
        BrokenReport {
            broken: *self,
            backend: backend.map(|backend| backend.spec().id.clone()),
            page_size: backend.map(|backend| backend.page_size().bytes()),
        }
    }
}

/// A [`BrokenMemory`] with everything that a person, or an event, shall be told.
#[derive(Clone, Debug)]
pub struct BrokenReport {
    /// The page.
    pub broken: BrokenMemory,
    /// Id of its backend.
    pub backend: Option<String>,
    /// Bytes that are lost with it.
    pub page_size: Option<u64>,
}

impl BrokenReport {
    /// Whose memory it is, as QMP's `MemoryFailureRecipient` names it.
    pub fn recipient(&self) -> &'static str {
        match self.broken.whose {
            Whose::Guest(_) => "guest",
            Whose::Ours(_) => "hypervisor",
        }
    }

    /// Whether somebody needs what was in the page.
    pub fn action_required(&self) -> bool {
        self.broken.action != Action::Ignore
    }

    /// Whether the guest was busy with another machine check.
    pub fn recursive(&self) -> bool {
        self.broken.recursive
    }

    /// The vCPU that touched it, if one did.
    pub fn vcpu(&self) -> Option<u8> {
        self.broken.vcpu
    }
}

impl fmt::Display for BrokenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whose, address) = match self.broken.whose {
            Whose::Guest(address) => ("behind guest address", address.0),
            Whose::Ours(address) => ("of Ballast itself, at host address", address),
        };
        write!(f, "the host's memory {whose} {address:#x} is broken")?;
        if let (Some(backend), Some(size)) = (&self.backend, self.page_size) {
            write!(f, ", a page of {size} bytes of backend '{backend}'")?;
        }
        match (self.broken.action, self.broken.vcpu) {
            (Action::Inject, Some(vcpu)) => write!(f, "; vCPU {vcpu} got a machine check"),
            (Action::Reset, Some(vcpu)) => {
                write!(
                    f,
                    "; the guest cannot take a machine check on vCPU {vcpu} and is reset"
                )
            }
            (Action::Fatal, _) => write!(f, "; a device needs it"),
            (Action::Ignore | Action::Inject | Action::Reset, _) => write!(f, "; nobody has touched it yet"),
        }
    }
}

#[cfg(test)]
mod tests;
