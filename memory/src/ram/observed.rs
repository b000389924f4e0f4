//! Looking at backends from outside: what the host holds for them.

use std::io;
use std::sync::Arc;

use super::{OpenBackend, Opened, Ram};
use crate::residency::{self, Residency, Subject};

/// A backend for somebody who looks at it, on any thread. It stays open as long as he does.
#[derive(Clone, Debug)]
pub struct Observed(Arc<Opened>);

impl OpenBackend {
    /// The same backend, to be looked at.
    #[must_use]
    pub fn observed(&self) -> Observed {
        Observed(Arc::clone(&self.opened))
    }

    /// Tells it from every other that this process has, or had: ids are given again.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.opened.serial
    }
}

impl Observed {
    /// As [`OpenBackend::serial`].
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.0.serial
    }
}

impl Ram {
    /// What the host holds now for each backend, and for `others` after them. The page tables of all are walked, which takes 5
    /// to 10 ms a GiB of 4 KiB pages.
    ///
    /// # Errors
    /// When /proc or a backing file cannot be read.
    pub fn residency_with(&self, others: &[Observed]) -> io::Result<Vec<Residency>> {
        let own = self.backends().iter().map(|backend| &backend.opened);
        let all: Vec<_> = own.chain(others.iter().map(|other| &other.0)).collect();
        let specs: Vec<_> = all.iter().map(|opened| opened.spec()).collect();
        let subject = |(opened, spec)| {
            let opened: &Opened = opened;
            Subject {
                spec,
                backend: opened.source.as_ref(),
                mapping: &opened.mapping,
            }
        };
        let opened = all.iter().map(|opened| opened.as_ref());
        let subjects: Vec<Subject<'_>> = opened.zip(specs.iter().map(AsRef::as_ref)).map(subject).collect();
        residency::read(&subjects)
    }

    /// [`Ram::residency_with`] no others.
    ///
    /// # Errors
    /// The same.
    pub fn residency(&self) -> io::Result<Vec<Residency>> {
        self.residency_with(&[])
    }
}
