//! The RAM of a guest: what every other crate holds.

mod broken;
mod change;
mod error;
mod fill;
mod limit;
mod misplaced;
mod observed;
mod open;
mod population;
mod provision;
mod refusal;
mod reset;
mod shortage;

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::absent::Absent;
use crate::backend::{Backend, BackendSpec, Lack, OpenObserver, Released};
use crate::effective::Effective;
use crate::given::Given;
use crate::host::cgroup;
use crate::host::hugepages::Pool;
use crate::mapping::{Advice, Mapping, Span};
use crate::partial::Partial;
use crate::proc;
use crate::range::GuestRange;
use crate::region::Region;
use crate::release::{Reason, Releaser};
use crate::residency;
use crate::size::{ByteSize, PageSize};

pub use change::ChangeError;
pub use error::RamError;
use fill::Filling;

pub use fill::{PreallocListener, PreallocReport, PreallocState};
pub use limit::OverLimit;
pub use misplaced::Misplaced;
pub use observed::Observed;
pub use population::Population;
pub use shortage::Shortage;

/// The RAM of one guest. Clones are the same RAM; it is unmapped with the last one.
#[derive(Clone, Debug)]
pub struct Ram(Arc<Inner>);

/// The fields are dropped in this order: what looks into the mappings goes before them.
#[derive(Debug)]
struct Inner {
    memory: GuestMemoryMmap<()>,
    regions: Vec<Region>,
    backends: Vec<OpenBackend>,
}

/// A backend that is part of the guest.
#[derive(Debug)]
pub struct OpenBackend {
    opened: Arc<Opened>,
    warnings: Vec<String>,
    /// Provides its pages beside the guest, or did.
    filler: Mutex<Option<JoinHandle<()>>>,
}

/// What a backend shares with the thread that fills it.
#[derive(Debug)]
struct Opened {
    /// Like that of no other that this process has opened.
    serial: u64,
    /// As it is wanted now: some properties change while the guest runs.
    spec: Mutex<Arc<BackendSpec>>,
    source: Box<dyn Backend>,
    mapping: Mapping,
    /// As it was read last: at the start, and after each change.
    effective: Mutex<Arc<Effective>>,
    /// It gave pages back since it was opened, and with shared huge pages their reservation.
    gave_back: AtomicBool,
    /// Which.
    given: Given,
    filling: Filling,
}

impl Opened {
    fn spec(&self) -> Arc<BackendSpec> {
        Arc::clone(&self.spec.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on this is wanted.
    fn set_spec(&self, spec: BackendSpec) {
        *self.spec.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(spec);
    }

    /// Reads what is in effect now.
    fn read_back(&self) -> io::Result<Arc<Effective>> {
        let effective = Arc::new(Effective::read(self.source.as_ref(), &self.mapping)?);
        *self.effective.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&effective);
        Ok(effective)
    }

    /// Reads what advice is in effect now, which costs one walk of all pages; all else would cost another one.
    fn read_back_advice(&self) -> io::Result<Arc<Effective>> {
        let smaps = proc::smaps(&self.mapping)?;
        let mut effective = self.effective.lock().unwrap_or_else(PoisonError::into_inner);
        *effective = Arc::new(effective.with_advice(&smaps));
        Ok(Arc::clone(&effective))
    }
}

impl Ram {
    /// [`Ram::map`] and [`Population`] in one.
    ///
    /// # Errors
    /// The same.
    pub fn open(specs: Vec<BackendSpec>, observer: &dyn OpenObserver) -> Result<Self, RamError> {
        let ram = Self::map(specs, observer)?;
        Population::new(ram.backends(), None).run(observer)?;
        Ok(ram)
    }

    /// Opens all backends, one after the other in the guest's address space, and gives them what they ask for in this order:
    /// map, transparent huge pages, other hints, policy, lock, read back. Before anything is mapped the pools of huge pages are
    /// checked. The start ends with a [`Population`] of [`Ram::backends`], before which nobody may touch them.
    ///
    /// # Errors
    /// [`RamError`] when something that was asked for cannot be had. Nothing is left behind then, nor when the RAM goes before
    /// [`Ram::started`].
    #[expect(clippy::needless_pass_by_value, reason = "the caller hands its plan over")]
    pub fn map(specs: Vec<BackendSpec>, observer: &dyn OpenObserver) -> Result<Self, RamError> {
        open::map(&specs, observer).map(|inner| Self(Arc::new(inner)))
    }

    /// The start has come to its end: files that were made for it stay.
    pub fn started(&self) {
        self.0.backends.iter().for_each(OpenBackend::started);
    }

    /// All RAM.
    #[must_use]
    pub fn size(&self) -> ByteSize {
        let sizes = self.0.backends.iter().map(|backend| backend.size().bytes());
        ByteSize::from_bytes(sizes.sum())
    }

    /// The RAM as vm-memory has it, for reading and writing.
    #[must_use]
    pub fn memory(&self) -> &GuestMemoryMmap<()> {
        &self.0.memory
    }

    /// The contiguous pieces, by guest address.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.0.regions
    }

    /// The piece that holds `address`.
    #[must_use]
    pub fn region_at(&self, address: GuestAddress) -> Option<&Region> {
        let after = self
            .0
            .regions
            .partition_point(|region| region.guest.start <= address);
        let region = self.0.regions.get(after.checked_sub(1)?)?;
        region.guest.contains(address).then_some(region)
    }

    /// The backends, in the order of their specifications.
    #[must_use]
    pub fn backends(&self) -> &[OpenBackend] {
        &self.0.backends
    }

    /// The size of the page behind `address`.
    #[must_use]
    pub fn page_size_at(&self, address: GuestAddress) -> Option<PageSize> {
        self.region_at(address).map(Region::page_size)
    }

    /// Whether some RAM has pages larger than 4 KiB, so that a balloon must say when it takes pages back.
    #[must_use]
    pub fn huge_backing(&self) -> bool {
        self.0.regions.iter().any(|region| region.page.is_huge())
    }

    /// An empty record of ballooned pieces of this RAM's huge pages.
    #[must_use]
    pub fn partial(&self) -> Partial {
        Partial::new(self.0.regions.iter().map(|region| (region.guest, region.page)))
    }

    /// Gives memory back once, as a balloon does; who does it again and again keeps a [`Releaser`], which says what happens.
    #[must_use]
    pub fn release(&self, ranges: &[GuestRange]) -> Released {
        Releaser::new(self.clone()).release(ranges, Reason::Inflated)
    }

    /// An empty record of huge pages that were given back.
    #[must_use]
    pub fn absent(&self) -> Absent {
        Absent::new(self.0.regions.iter().map(|region| {
            let reserved = self.0.backends[region.backend].effective().reserve;
            (region.guest, region.page, reserved)
        }))
    }

    /// To be called when the guest has taken back all that it gave: the balloon is empty.
    ///
    /// Memory that lost pieces of 2 MiB gets no transparent huge pages, since those would fill the holes. From here on it
    /// does again.
    pub fn all_in_use(&self) {
        for backend in &self.0.backends {
            backend.opened.given.deflated();
            backend.opened.mapping.without_holes();
        }
    }

    /// The guest address at a host address, and the index of its backend; `None` when the address is not guest RAM.
    #[must_use]
    pub fn locate(&self, host_address: u64) -> Option<(GuestAddress, usize)> {
        self.0.regions.iter().find_map(|region| {
            let offset = host_address.checked_sub(region.host_address)?;
            let address = GuestAddress(region.guest.start.0 + offset);
            (offset < region.guest.len).then_some((address, region.backend))
        })
    }
}

impl OpenBackend {
    /// Opens a backend that is no part of a guest's RAM, as [`Ram::map`] does. What [`Prealloc`](crate::backend::Prealloc) asks
    /// for is a [`Population`], or begins with [`OpenBackend::fill`].
    ///
    /// # Errors
    /// As [`Ram::map`].
    pub fn open(spec: &BackendSpec) -> Result<Self, RamError> {
        open::open_alone(spec, &())
    }

    /// Its start has come to its end: a file that was made for it stays.
    pub fn started(&self) {
        self.opened.source.started();
    }

    /// How much memory it is.
    #[must_use]
    pub fn size(&self) -> ByteSize {
        ByteSize::from_bytes(self.opened.mapping.len())
    }

    /// What is asked of it now: at the start, and by changes since then.
    #[must_use]
    pub fn spec(&self) -> Arc<BackendSpec> {
        self.opened.spec()
    }

    /// What took effect, read back at the end of the start and after each change.
    #[must_use]
    pub fn effective(&self) -> Arc<Effective> {
        Arc::clone(
            &self
                .opened
                .effective
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// The pages that it gives and takes back.
    #[must_use]
    pub fn page_size(&self) -> PageSize {
        self.opened.source.page_size()
    }

    /// The file of its memory, and where in it the memory begins, for another process that is to see what the guest has there;
    /// `None` where the memory is the guest's alone.
    #[must_use]
    pub fn shared_file(&self) -> Option<(BorrowedFd<'_>, u64)> {
        let file = self.opened.source.shared_file()?;
        Some((file, self.opened.mapping.file_offset(0)))
    }

    /// Why none of its memory goes back to the host while the guest runs, so that a balloon and reported pages do nothing for
    /// it; `None` where it does.
    #[must_use]
    pub fn keeps(&self) -> Option<&'static str> {
        self.opened.source.keeps()
    }

    /// What the user should know about defaults that could not take effect.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// One line: what took effect, and what was asked where that differs.
    #[must_use]
    pub fn summary(&self) -> String {
        self.effective().summary(&self.spec())
    }

    /// The pool that its huge pages come from, as it is now, on its nodes where it is bound to some; `None` for other pages.
    #[must_use]
    pub fn shortage(&self) -> Option<Pool> {
        let page = self.page_size();
        let pool = page
            .is_huge()
            .then(|| Pool::read(page, self.spec().policy.bound()));
        pool?.ok()
    }

    /// Whether data of the guest was cut off its file. True to the last time that it was asked: ask about four times a second.
    #[must_use]
    pub fn has_lost_data(&self) -> bool {
        self.opened.source.lack().is_some_and(|lack| lack.is_loss())
    }

    /// Why it cannot supply a page now: its file was cut, its file system is full, a limit is reached, its pool is empty.
    /// Ordinary memory never says so.
    #[must_use]
    pub fn lack(&self) -> Option<Lack> {
        let page = self.page_size();
        // With all its huge pages reserved there is one for each, though the last may take long to clear. Its control group is
        // asked all the same.
        let reserved =
            page.is_huge() && self.effective().reserve && !self.opened.gave_back.load(Ordering::Relaxed);
        let file = self.opened.source.lack();
        let file = file.filter(|lack| !reserved || matches!(lack, Lack::Cut(_)));
        let limit = || {
            let limit = if reserved {
                cgroup::huge_pages_in_use(page)
            } else {
                cgroup::huge_pages(page)
            };
            limit.filter(|limit| limit.left() < page.size() && !self.has_all_but_one())
        };
        let pool = || self.shortage().filter(|pool| !reserved && pool.free == 0);
        file.or_else(|| limit().map(Lack::Limit))
            .or_else(|| pool().map(Lack::Pool))
    }

    /// Whether the host holds all its pages, or all but one that may take long to clear.
    fn has_all_but_one(&self) -> bool {
        let held = self.resident().unwrap_or_default();
        held.bytes() + self.page_size().bytes() >= self.spec().size.bytes()
    }

    /// Somebody knows that data of the guest was lost, and goes on without it.
    pub fn accept_loss(&self) {
        self.opened.source.accept_loss();
    }

    /// Gives pieces of it back, which are sorted and apart from each other, and used up.
    pub(crate) fn release(&self, spans: &mut Vec<Span>, reason: Reason) -> Released {
        if self.keeps().is_none() {
            self.opened.given.mark(spans, reason);
        }
        let released = self.opened.source.release(&self.opened.mapping, spans);
        if released.discarded > 0 {
            self.opened.gave_back.store(true, Ordering::Relaxed);
        }
        released
    }

    /// Has the host provide the pages of a piece now.
    ///
    /// # Errors
    /// What madvise(2) says of `MADV_POPULATE_WRITE`.
    pub(crate) fn populate(&self, span: Span) -> io::Result<()> {
        self.opened.mapping.advise(span, Advice::PopulateWrite)
    }

    /// How much the host holds for it now; the first figure of [`Ram::residency`], and cheaper: the size of a file is known,
    /// only private memory is counted page by page.
    ///
    /// # Errors
    /// When /proc or the backing file cannot be read.
    pub fn resident(&self) -> io::Result<ByteSize> {
        residency::resident(self.opened.source.as_ref(), &self.opened.mapping)
    }
}

#[cfg(test)]
mod tests;
