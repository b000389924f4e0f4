//! What may change about a backend while the guest runs.

use std::io;

use thiserror::Error;

use super::OpenBackend;
use crate::backend::{BackendSpec, MergeRequest, Prealloc, SpecError};
use crate::effective::Effective;
use crate::mapping::Advice;

/// Why a backend stays as it is.
#[derive(Debug, Error)]
pub enum ChangeError {
    /// It cannot work on any host.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The kernel refuses.
    #[error("the kernel refuses {property} of backend '{id}'")]
    Refused {
        /// The backend.
        id: String,
        /// The property with its value.
        property: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// What took effect cannot be read.
    #[error("cannot read back the state of backend '{id}'")]
    ReadBack {
        /// The backend.
        id: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// What is there cannot be taken away.
    #[error(
        "the memory of backend '{id}' is preallocated, which cannot be undone; x-ballast-cancel-prealloc ends what still \
         goes on, and a balloon takes memory back"
    )]
    Preallocated {
        /// The backend.
        id: String,
    },
    /// The preallocation does not begin.
    #[error("cannot preallocate backend '{id}'")]
    Fill {
        /// The backend.
        id: String,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel took it and did nothing.
    #[error("{property} of backend '{id}' did not take effect")]
    NotEffective {
        /// The backend.
        id: String,
        /// The property with its value.
        property: &'static str,
    },
}

impl OpenBackend {
    /// Lets KSM merge the pages, or takes them back from it: each that it had merged becomes a page of its own again, which
    /// takes its time.
    ///
    /// # Errors
    /// [`ChangeError`] when this memory cannot be merged, or when the host has no room for the pages that come back.
    pub fn set_merge(&self, on: bool) -> Result<(), ChangeError> {
        let (request, advice, property) = match on {
            true => (MergeRequest::On, Advice::Mergeable, "merge=on"),
            false => (MergeRequest::Off, Advice::Unmergeable, "merge=off"),
        };
        let mut spec = BackendSpec::clone(&self.spec());
        spec.merge = request;
        spec.check()?;
        spec.check_opened(self.opened.source.as_ref())?;
        // Memory that was never KSM's need not be taken from it, and a kernel without KSM knows no such advice.
        if on || self.effective().merge {
            self.advise(advice, property)?;
        }
        self.change(spec, property, |effective| effective.merge == on)
    }

    /// Puts the memory into core dumps of this process, or leaves it out.
    ///
    /// # Errors
    /// [`ChangeError`] when the kernel refuses; it has no reason to.
    pub fn set_dump(&self, on: bool) -> Result<(), ChangeError> {
        let (advice, property) = match on {
            true => (Advice::DoDump, "dump=on"),
            false => (Advice::DontDump, "dump=off"),
        };
        let mut spec = BackendSpec::clone(&self.spec());
        spec.dump = on;
        self.advise(advice, property)?;
        self.change(spec, property, |effective| effective.dump == on)
    }

    /// Has the host provide all pages, beside the guest: [`OpenBackend::fill`]. One that failed or was cancelled can be taken back.
    ///
    /// # Errors
    /// [`ChangeError`] when the backend is not to be filled, or is and `on` is false.
    pub fn set_prealloc(&self, on: bool) -> Result<(), ChangeError> {
        let mut spec = BackendSpec::clone(&self.spec());
        let id = || self.spec().id.clone();
        match (on, spec.prealloc.wanted()) {
            (false, false) => return Ok(()),
            (false, true) if self.is_preallocated() => return Err(ChangeError::Preallocated { id: id() }),
            (false, true) => {
                spec.prealloc = Prealloc::Off;
                self.opened.set_spec(spec);
                return Ok(());
            }
            (true, true) => {}
            (true, false) => {
                spec.prealloc = Prealloc::Background;
                spec.check()?;
                self.opened.set_spec(spec);
            }
        }
        self.fill()
            .map_err(|source| ChangeError::Fill { id: id(), source })
    }

    fn advise(&self, advice: Advice, property: &'static str) -> Result<(), ChangeError> {
        let advised = self.opened.mapping.advise(self.opened.mapping.whole(), advice);
        advised.map_err(|source| ChangeError::Refused {
            id: self.spec().id.clone(),
            property,
            source,
        })
    }

    /// Reads back what took effect, and from then on asks for `spec`.
    fn change(
        &self,
        spec: BackendSpec,
        property: &'static str,
        holds: impl FnOnce(&Effective) -> bool,
    ) -> Result<(), ChangeError> {
        let id = || spec.id.clone();
        let read = self.opened.read_back_advice();
        let effective = read.map_err(|source| ChangeError::ReadBack { id: id(), source })?;
        if !holds(&effective) {
            return Err(ChangeError::NotEffective { id: id(), property });
        }
        self.opened.set_spec(spec);
        Ok(())
    }
}
