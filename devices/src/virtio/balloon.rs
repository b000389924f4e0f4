//! The balloon (virtio 1.2, §5.5): takes pages from the guest and gives their memory back to the host.
//!
//! The user sets a target by [`BalloonHandle`]; the driver reads it as `num_pages` and sends page numbers through the
//! inflate queue, or takes pages back through the deflate queue. What the driver says it has given is a claim
//! (`actual`); what was really discarded is counted apart.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use memory::ram::Ram;
use memory::size::ByteSize;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::fault::Faults;

use super::queue::{QueueError, VirtQueue};
use super::{Description, Memory, VirtioDevice};

#[allow(dead_code, reason = "served from the next commit on")]
mod controller;
mod handle;
#[allow(dead_code, reason = "served from the next commit on")]
mod inhibit;
mod news;
mod pages;
mod queues;
mod report;
mod shared;
mod spec;
#[allow(dead_code, reason = "served from the next commit on")]
mod stats;

pub use handle::BalloonHandle;
pub use inhibit::InhibitGuard;
pub use news::{BalloonNews, DistressReport, StallReason, StallReport};
pub use report::{BalloonCounters, BalloonReport, BalloonState, ReportingState};
pub use spec::{BalloonError, BalloonSpec, Reporting};
pub use stats::{GuestStats, STAT_NAMES, Stat};

use pages::Pages;
use queues::Role;
use shared::Shared;

/// VIRTIO_BALLOON_F_MUST_TELL_HOST: the driver waits for the device before it takes a page back.
pub const F_MUST_TELL_HOST: u64 = 1 << 0;
/// VIRTIO_BALLOON_F_STATS_VQ: there is a queue for memory statistics.
pub const F_STATS_VQ: u64 = 1 << 1;
/// VIRTIO_BALLOON_F_DEFLATE_ON_OOM: the driver may take pages back when it runs out of memory.
pub const F_DEFLATE_ON_OOM: u64 = 1 << 2;
/// VIRTIO_BALLOON_F_FREE_PAGE_HINT: there is a queue for hints at free pages.
pub const F_FREE_PAGE_HINT: u64 = 1 << 3;
/// VIRTIO_BALLOON_F_PAGE_POISON: the driver says what its free pages contain.
pub const F_PAGE_POISON: u64 = 1 << 4;
/// VIRTIO_BALLOON_F_PAGE_REPORTING: there is a queue for free pages.
pub const F_PAGE_REPORTING: u64 = 1 << 5;

/// Virtio device number of the balloon.
const DEVICE_TYPE: u8 = 5;
/// PCI class: none of the defined ones.
const CLASS: u32 = 0x00_ff_00;
/// Size of every queue.
const QUEUE_SIZE: u16 = 128;
/// Bytes of a page as the balloon counts them, whatever the guest's or the host's page size.
pub(super) const PAGE: u64 = 4096;

/// The device configuration: `num_pages`, then `actual`, in pages of 4 KiB.
const CONFIG_BYTES: usize = 8;
const NUM_PAGES: Range<usize> = 0..4;
const ACTUAL: Range<usize> = 4..8;

/// Called with each piece of news, from the device's thread; has to return quickly.
pub type OnNews = Box<dyn Fn(BalloonNews) + Send>;

/// The device half of a balloon; lives in its worker.
pub struct Balloon {
    spec: BalloonSpec,
    /// Features offered.
    features: u64,
    /// Features accepted by the driver that is there now.
    accepted: u64,
    config: [u8; CONFIG_BYTES],
    shared: Arc<Shared>,
    pages: Pages,
    news: OnNews,
}

impl std::fmt::Debug for Balloon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Balloon")
            .field("spec", &self.spec)
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

impl Balloon {
    /// A balloon over all of `ram`, with nothing in it, and the handle to set and ask it.
    ///
    /// # Errors
    /// When no eventfd can be had, or the first target cannot be.
    pub fn new(spec: BalloonSpec, ram: Ram, news: OnNews) -> Result<(BalloonHandle, Balloon), BalloonError> {
        let event = EventFd::new(EFD_NONBLOCK);
        let event = event.map_err(|source| BalloonError::CreateEvent {
            id: spec.id.clone(),
            source,
        })?;
        let mut features = 0;
        if spec.deflate_on_oom {
            features |= F_DEFLATE_ON_OOM;
        }
        // Pieces of a large page can only be kept from one kick to the next if none is used again untold.
        if ram.huge_backing() {
            features |= F_MUST_TELL_HOST;
        }
        let shared = Arc::new(Shared::new(&spec, ram.size(), features, event)?);
        let pages = Pages::new(ram, Arc::clone(&shared));
        let handle = BalloonHandle::new(Arc::clone(&shared));
        let balloon = Balloon {
            spec,
            features,
            accepted: 0,
            config: [0; CONFIG_BYTES],
            shared,
            pages,
            news,
        };
        Ok((handle, balloon))
    }

    /// Takes what the driver says is in the balloon, in pages, and tells it on if it is news.
    fn set_claim(&mut self, pages: u32) {
        self.config[ACTUAL].copy_from_slice(&pages.to_le_bytes());
        let mut controller = self.shared.controller();
        let changed = controller.claim(Instant::now(), u64::from(pages) * PAGE);
        let actual = ByteSize::from_bytes(controller.actual());
        drop(controller);
        if changed {
            (self.news)(BalloonNews::Actual(actual));
            if pages == 0 {
                self.pages.all_in_use();
            }
        }
    }
}

impl VirtioDevice for Balloon {
    fn description(&self) -> Description {
        Description {
            id: self.spec.id.clone(),
            device_type: DEVICE_TYPE,
            class: CLASS,
            features: self.features,
            queue_sizes: vec![QUEUE_SIZE; queues::count(self.features)],
            config_writable: vec![ACTUAL],
        }
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn event(&self) -> &EventFd {
        &self.shared.event
    }

    fn activate(&mut self, features: u64) {
        self.accepted = features;
        self.pages.set_must_tell_host(features & F_MUST_TELL_HOST != 0);
        self.shared.accepted.store(features, Ordering::Relaxed);
        self.shared.controller().set_driver(Instant::now(), true);
    }

    fn handle_event(&mut self) {
        self.config[NUM_PAGES].copy_from_slice(&self.shared.controller().pages_wanted().to_le_bytes());
    }

    fn config_written(&mut self, config: &[u8]) {
        if let Some(&[a, b, c, d]) = config.get(ACTUAL) {
            self.set_claim(u32::from_le_bytes([a, b, c, d]));
        }
    }

    fn process(
        &mut self,
        memory: &Memory,
        queues: &mut [VirtQueue],
        faults: &Faults,
    ) -> Result<(), QueueError> {
        let accepted = self.accepted;
        let at = |role| queues::index(role, accepted);
        // Deflates first: an inflate that completes a large page must not discard a piece that is on its way back.
        if let Some(queue) = at(Role::Deflate).and_then(|index| queues.get_mut(index)) {
            self.pages.deflate(memory, queue, faults)?;
        }
        if let Some(queue) = at(Role::Inflate).and_then(|index| queues.get_mut(index)) {
            self.pages.inflate(memory, queue, faults)?;
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.accepted = 0;
        self.shared.accepted.store(0, Ordering::Relaxed);
        self.shared.controller().set_driver(Instant::now(), false);
        self.pages.reset();
        self.set_claim(0);
    }
}

#[cfg(test)]
mod tests;
