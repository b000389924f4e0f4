//! The user's side of a balloon: set a target, ask what became of it. Nothing here waits for guest or device.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use memory::size::ByteSize;
use vmm_sys_util::eventfd::EventFd;

use super::{BalloonError, PAGE};

/// What handle and device share. All sizes are bytes.
#[derive(Debug)]
pub(super) struct Shared {
    id: String,
    /// The guest's RAM.
    pub(super) ram: ByteSize,
    /// What the user wants the guest to keep; at most `ram`.
    target: AtomicU64,
    /// What the driver says is in the balloon; at most `ram`.
    pub(super) claimed: AtomicU64,
    pub(super) discarded: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) partial: AtomicU64,
    /// A driver is there.
    pub(super) ready: AtomicBool,
    /// The target changed.
    pub(super) event: EventFd,
}

impl Shared {
    pub(super) fn new(id: String, ram: ByteSize, event: EventFd) -> Shared {
        let zero = || AtomicU64::new(0);
        Shared {
            id,
            ram,
            target: AtomicU64::new(ram.bytes()),
            claimed: zero(),
            discarded: zero(),
            refused: zero(),
            failed: zero(),
            partial: zero(),
            ready: AtomicBool::new(false),
            event,
        }
    }

    /// The guest's memory by its own account.
    pub(super) fn actual(&self) -> ByteSize {
        ByteSize::from_bytes(
            self.ram
                .bytes()
                .saturating_sub(self.claimed.load(Ordering::Relaxed)),
        )
    }

    /// The balloon's size that the target asks for, in pages of 4 KiB.
    pub(super) fn pages_wanted(&self) -> u32 {
        let bytes = self
            .ram
            .bytes()
            .saturating_sub(self.target.load(Ordering::Relaxed));
        u32::try_from(bytes / PAGE).unwrap_or(u32::MAX)
    }
}

/// What a balloon has done, in bytes. Four figures that are not each other: see each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalloonCounters {
    /// In the balloon now, by the guest's own account.
    pub inflated: u64,
    /// Discarded since start: whole backing pages whose release succeeded. A page that was inflated twice counts
    /// twice, and one that was never touched counts too, so this is not what the host has gained.
    pub discarded: u64,
    /// Pieces of large backing pages that wait for the rest of their page, now.
    pub partial: u64,
    /// Since start: what a backend does not release.
    pub refused: u64,
    /// Since start: what the host failed to release.
    pub failed: u64,
}

/// Sets and asks a balloon. Clones are the same balloon.
#[derive(Clone, Debug)]
pub struct BalloonHandle {
    shared: Arc<Shared>,
}

impl BalloonHandle {
    pub(super) fn new(shared: Arc<Shared>) -> BalloonHandle {
        BalloonHandle { shared }
    }

    /// The balloon's name.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Asks that the guest keep `remaining` of its memory; more than it has means all. Returns at once: the guest
    /// follows when it can. A target set before there is a driver, or kept through a reset, awaits the next driver.
    ///
    /// # Errors
    /// When `remaining` is 0.
    pub fn set_target(&self, remaining: ByteSize) -> Result<(), BalloonError> {
        if remaining.bytes() == 0 {
            return Err(BalloonError::SetTarget {
                id: self.shared.id.clone(),
            });
        }
        self.shared
            .target
            .store(remaining.bytes().min(self.shared.ram.bytes()), Ordering::Relaxed);
        // A counter that is full has been rung enough.
        let _ = self.shared.event.write(1);
        Ok(())
    }

    /// What the guest is asked to keep.
    #[must_use]
    pub fn target(&self) -> ByteSize {
        ByteSize::from_bytes(self.shared.target.load(Ordering::Relaxed))
    }

    /// What the guest says it has: RAM less the balloon, never below 0 or above RAM.
    #[must_use]
    pub fn actual(&self) -> ByteSize {
        self.shared.actual()
    }

    /// Whether a driver is there.
    #[must_use]
    pub fn driver_ready(&self) -> bool {
        self.shared.ready.load(Ordering::Relaxed)
    }

    /// What the balloon has done so far.
    #[must_use]
    pub fn counters(&self) -> BalloonCounters {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BalloonCounters {
            inflated: read(&self.shared.claimed),
            discarded: read(&self.shared.discarded),
            partial: read(&self.shared.partial),
            refused: read(&self.shared.refused),
            failed: read(&self.shared.failed),
        }
    }
}

#[cfg(test)]
mod tests;
