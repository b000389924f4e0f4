//! Forbidding releases for a while: what a device has pinned must not be taken from under it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::shared::Shared;

/// Who forbids releases, counted by reason.
#[derive(Debug, Default)]
pub(super) struct Inhibitors {
    /// Held for moments only.
    reasons: Mutex<BTreeMap<String, u32>>,
    /// Held for as long as a release takes.
    releasing: Mutex<()>,
}

impl Inhibitors {
    /// Runs `release`, unless somebody forbids it; nobody can begin to while it runs.
    pub(super) fn unless_forbidden<T>(&self, release: impl FnOnce() -> T) -> Option<T> {
        let _releasing = self.releasing.lock().unwrap_or_else(PoisonError::into_inner);
        let forbidden = !self.reasons().is_empty();
        (!forbidden).then(release)
    }

    /// Each reason, and how often it holds.
    pub(super) fn list(&self) -> Vec<(String, u32)> {
        let reasons = self.reasons();
        reasons
            .iter()
            .map(|(reason, count)| (reason.clone(), *count))
            .collect()
    }

    fn add(&self, reason: &str) {
        let mut reasons = self.reasons();
        let count = reasons.entry(reason.to_owned()).or_default();
        *count = count.saturating_add(1);
        drop(reasons);
        // A release that began before must be over before anybody relies on there being none.
        drop(self.releasing.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn remove(&self, reason: &str) {
        let mut reasons = self.reasons();
        if let Some(count) = reasons.get_mut(reason) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                reasons.remove(reason);
            }
        }
    }

    fn reasons(&self) -> MutexGuard<'_, BTreeMap<String, u32>> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// While it lives, its balloon releases nothing. See [`super::BalloonHandle::inhibit`].
#[derive(Debug)]
pub struct InhibitGuard {
    shared: Arc<Shared>,
    reason: String,
}

impl InhibitGuard {
    pub(super) fn new(shared: Arc<Shared>, reason: &str) -> InhibitGuard {
        shared.inhibitors.add(reason);
        InhibitGuard {
            shared,
            reason: reason.to_owned(),
        }
    }
}

impl Drop for InhibitGuard {
    fn drop(&mut self) {
        self.shared.inhibitors.remove(&self.reason);
    }
}
