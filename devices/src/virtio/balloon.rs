//! The balloon (virtio 1.2, §5.5): takes pages from the guest and gives their memory back to the host.
//!
//! The user sets a target by [`BalloonHandle`]; the driver reads it as `num_pages` and sends page numbers through the
//! inflate queue, or takes pages back through the deflate queue. What the driver says it has given is a claim
//! (`actual`); what was really discarded is counted apart.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use memory::ram::Ram;
use memory::size::ByteSize;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::fault::Faults;

use super::queue::{QueueError, VirtQueue};
use super::{Description, Memory, VirtioDevice};

mod chains;
mod config_space;
mod controller;
mod distress;
mod handle;
mod host;
mod inhibit;
mod news;
mod pages;
mod queues;
mod report;
mod shared;
mod spec;
mod stats;
mod stats_queue;
mod told;

pub use handle::BalloonHandle;
pub use inhibit::InhibitGuard;
pub use news::{BalloonNews, DistressReport, OnNews, StallReason, StallReport};
pub use report::{BackendFigures, BalloonCounters, BalloonReport, BalloonState, ReportingState};
pub use spec::{BalloonError, BalloonSpec, Reporting};
pub use stats::{GuestStats, STAT_NAMES, Stat};

use config_space::ConfigSpace;
use distress::Distress;
use pages::Pages;
use queues::Role;
use shared::Shared;
use stats_queue::{Heard, StatsQueue};
use told::Told;

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

/// The device half of a balloon; lives in its worker.
pub struct Balloon {
    config: ConfigSpace,
    shared: Arc<Shared>,
    pages: Pages,
    stats: StatsQueue,
    distress: Distress,
    told: Told,
    news: OnNews,
}

impl std::fmt::Debug for Balloon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Balloon")
            .field("shared", &self.shared)
            .finish_non_exhaustive()
    }
}

/// What a balloon of `spec` over `ram` offers.
fn features(spec: &BalloonSpec, ram: &Ram) -> u64 {
    let offers = [
        // Pieces of a large page can only be kept from one kick to the next if none is used again untold.
        (ram.huge_backing(), F_MUST_TELL_HOST),
        (true, F_STATS_VQ),
        (spec.deflate_on_oom, F_DEFLATE_ON_OOM),
        (spec.page_poison, F_PAGE_POISON),
        (spec.reporting == Reporting::On, F_PAGE_REPORTING),
    ];
    offers
        .into_iter()
        .filter(|(offered, _)| *offered)
        .fold(0, |features, (_, feature)| features | feature)
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
        let features = features(&spec, &ram);
        let shared = Arc::new(Shared::new(spec, &ram, features, event)?);
        let mut balloon = Balloon {
            config: ConfigSpace::new(features),
            pages: Pages::new(ram, Arc::clone(&shared)),
            stats: StatsQueue::new(Arc::clone(&shared)),
            distress: Distress::default(),
            told: Told::default(),
            shared: Arc::clone(&shared),
            news,
        };
        balloon.offer_target();
        Ok((BalloonHandle::new(shared), balloon))
    }

    /// Takes what the driver says is in the balloon, in pages, and tells it on if it is news.
    fn set_claim(&mut self, pages: u32) {
        let now = Instant::now();
        if !self.shared.controller().claim(now, u64::from(pages) * PAGE) {
            return;
        }
        self.told.change(now);
        self.tell_size(now);
        if pages == 0 {
            self.pages.all_in_use();
        }
    }

    fn tell_size(&mut self, now: Instant) {
        if self.told.tell(now) {
            let actual = self.shared.controller().actual();
            (self.news)(BalloonNews::Actual(ByteSize::from_bytes(actual)));
        }
    }

    fn offer_target(&mut self) {
        let pages = self.shared.controller().pages_wanted();
        self.config.set_num_pages(pages);
    }

    fn look_for_stall(&mut self, now: Instant) {
        let evidence = self.shared.evidence();
        let stall = self.shared.controller().check(now, &evidence);
        if let Some(stall) = stall {
            (self.news)(BalloonNews::Stalled(stall));
        }
    }

    /// Statistics have come.
    fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Nothing => return,
            Heard::Unasked => {}
            Heard::Answer => (self.news)(BalloonNews::StatsUpdated),
        }
        if self.shared.spec.deflate_on_distress {
            let actual = self.shared.controller().actual();
            let judge = |stats| self.distress.judge(stats, actual);
            let signs = self.shared.stats().as_ref().map(judge).unwrap_or_default();
            if !signs.is_empty() {
                self.give_everything_back(signs);
            }
        }
    }

    fn give_everything_back(&mut self, signs: Vec<(&'static str, u64)>) {
        let mut controller = self.shared.controller();
        let before = controller.target();
        let given_back = ByteSize::from_bytes(controller.claimed());
        controller.set_target(Instant::now(), u64::MAX);
        // All was on its way back already.
        let news = controller.target() != before;
        drop(controller);
        self.offer_target();
        if news {
            (self.news)(BalloonNews::Distress(DistressReport {
                signs,
                target: ByteSize::from_bytes(before),
                given_back,
            }));
        }
    }
}

impl VirtioDevice for Balloon {
    fn description(&self) -> Description {
        let features = self.shared.offered;
        Description {
            id: self.shared.spec.id.clone(),
            device_type: DEVICE_TYPE,
            class: CLASS,
            features,
            queue_sizes: vec![QUEUE_SIZE; queues::count(features)],
            config_writable: self.config.writable(),
        }
    }

    fn config(&self) -> &[u8] {
        self.config.bytes()
    }

    fn event(&self) -> &EventFd {
        &self.shared.event
    }

    fn next_timer(&self) -> Option<Instant> {
        let stall = self.shared.controller().next_check();
        let timers = [
            stall,
            self.stats.next_timer(),
            self.pages.next_timer(),
            self.told.next_timer(),
        ];
        timers.into_iter().flatten().min()
    }

    fn activate(&mut self, features: u64) {
        self.pages.set_must_tell_host(features & F_MUST_TELL_HOST != 0);
        self.stats.activate(features & F_STATS_VQ != 0);
        self.shared.accepted.store(features, Ordering::Relaxed);
        self.shared.controller().set_driver(Instant::now(), true);
    }

    fn handle_event(&mut self) {
        let now = Instant::now();
        self.offer_target();
        self.pages.timer(now);
        self.stats.timer(now);
        self.tell_size(now);
        self.look_for_stall(now);
    }

    fn config_written(&mut self, config: &[u8]) {
        self.config.write(config);
        self.shared
            .poison_val
            .store(self.config.poison_val(), Ordering::Relaxed);
        self.set_claim(self.config.actual());
    }

    fn process(
        &mut self,
        memory: &Memory,
        queues: &mut [VirtQueue],
        faults: &Faults,
    ) -> Result<(), QueueError> {
        let accepted = self.shared.accepted.load(Ordering::Relaxed);
        let at = |role| queues::index(role, accepted);
        // Deflates first: an inflate that completes a large page must not discard a piece that is on its way back.
        if let Some(queue) = at(Role::Deflate).and_then(|index| queues.get_mut(index)) {
            let short = self.pages.deflate(memory, queue, faults)?;
            self.shared.controller().set_host_short(Instant::now(), short);
        }
        if let Some(queue) = at(Role::Inflate).and_then(|index| queues.get_mut(index)) {
            self.pages.inflate(memory, queue, faults)?;
        }
        if let Some(queue) = at(Role::Reporting).and_then(|index| queues.get_mut(index)) {
            self.pages.report(memory, queue, faults)?;
        }
        if let Some(queue) = at(Role::Stats).and_then(|index| queues.get_mut(index)) {
            let heard = self.stats.serve(memory, queue, faults)?;
            self.hear(heard);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.config.reset();
        self.shared.accepted.store(0, Ordering::Relaxed);
        self.shared.poison_val.store(0, Ordering::Relaxed);
        self.shared.controller().set_driver(Instant::now(), false);
        self.pages.reset();
        self.stats.reset();
        self.distress.reset();
        self.set_claim(0);
    }
}

#[cfg(test)]
mod tests;
