//! A balloon behind its transport with a driver, and what the kernel says about its memory.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use devices::fault::Faults;
use devices::interrupt::MsiVector;
use devices::testing::{Descriptor, Driver, DriverQueue, FakeDoorbells, FakeVector, open_ram, wait_for};
use devices::virtio::balloon::{
    Balloon, BalloonHandle, BalloonNews, BalloonSpec, F_PAGE_REPORTING, F_STATS_VQ,
};
use devices::virtio::pci::VirtioPci;
use memory::backend::BackendKind;
use memory::layout::PCI32_WINDOW_START;
use memory::ram::Ram;
use memory::size::PageSize;
use vm_memory::{Bytes, GuestAddress};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const PAGE: u64 = 4096;
/// Pages in a large page of 2 MiB.
pub(crate) const HUGE: u32 = 512;
/// Rings and page numbers are in the first 2 MiB; tests balloon what follows.
pub(crate) const FIRST: u32 = HUGE;
pub(crate) const PFNS: u64 = 0x10_0000;

/// What smaps says is measured for the whole process: one test at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A balloon behind its transport, with a driver.
pub(crate) struct Rig<'a> {
    pub(crate) ram: &'a Ram,
    pub(crate) handle: BalloonHandle,
    pub(crate) device: Arc<VirtioPci>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) news: Arc<Mutex<Vec<BalloonNews>>>,
    /// By index: inflate, deflate, then those of the features.
    pub(crate) queues: Vec<DriverQueue<'a>>,
    features: u64,
}

pub(crate) const INFLATE: usize = 0;
pub(crate) const DEFLATE: usize = 1;

impl<'a> Rig<'a> {
    pub(crate) fn new(ram: &'a Ram, features: u64) -> Rig<'a> {
        let spec = BalloonSpec {
            deflate_on_oom: true,
            ..BalloonSpec::new("balloon0")
        };
        Rig::with(ram, spec, features)
    }

    pub(crate) fn with(ram: &'a Ram, spec: BalloonSpec, features: u64) -> Rig<'a> {
        let news: Arc<Mutex<Vec<BalloonNews>>> = Arc::default();
        let log = Arc::clone(&news);
        let on_news = move |news| log.lock().unwrap().push(news);
        let (handle, balloon) = Balloon::new(spec, ram.clone(), Box::new(on_news)).unwrap();
        let lines = (0..5)
            .map(|_| Arc::new(FakeVector::default()) as Arc<dyn MsiVector>)
            .collect();
        let faults = Arc::new(Faults::new());
        let device = VirtioPci::new(
            Box::new(balloon),
            ram.clone(),
            lines,
            Arc::new(FakeDoorbells::default()),
            Arc::clone(&faults),
            PCI32_WINDOW_START,
        );
        let mut rig = Rig {
            ram,
            handle,
            device: device.unwrap(),
            faults,
            news,
            queues: Vec::new(),
            features,
        };
        rig.start(features);
        rig
    }

    pub(crate) fn driver(&self) -> Driver<'_> {
        Driver::new(&self.device)
    }

    /// Index of the reporting queue.
    pub(crate) fn reporting(&self) -> usize {
        assert!(self.features & F_PAGE_REPORTING != 0);
        if self.features & F_STATS_VQ != 0 { 3 } else { 2 }
    }

    /// Resets the device and takes it into use again.
    pub(crate) fn start(&mut self, features: u64) {
        let more = [F_STATS_VQ, F_PAGE_REPORTING].map(|bit| u64::from(features & bit != 0));
        let count = 2 + more.iter().sum::<u64>();
        // The driver that was there lets go of its rings before others are put there.
        self.driver().reset();
        self.queues = (0..count)
            .map(|index| DriverQueue::new(self.ram, 0x1000 + 0x2000 * index, 128))
            .collect();
        self.features = features;
        let driver = Driver::new(&self.device);
        driver.set_memory_enabled(true);
        driver.enable_msix(5);
        driver.start(features, &self.queues.iter().collect::<Vec<_>>());
    }

    /// Offers `pfns` as Linux does, 256 to a chain, and waits for each chain.
    pub(crate) fn send(&mut self, queue: usize, pfns: impl IntoIterator<Item = u32>) {
        let pfns: Vec<u32> = pfns.into_iter().collect();
        for some in pfns.chunks(256) {
            self.queues[queue].describe_pfns(0, PFNS, some);
            self.exchange(queue);
        }
    }

    /// Offers descriptor 0 and waits until it comes back.
    pub(crate) fn exchange(&mut self, queue: usize) {
        self.queues[queue].offer(0);
        self.driver().notify(u16::try_from(queue).unwrap());
        let queue = &mut self.queues[queue];
        wait_for("the chain", || queue.used_index() == queue.available);
        assert_eq!(queue.take_used(), [(0, 0)]);
    }

    pub(crate) fn inflate(&mut self, pfns: impl IntoIterator<Item = u32>) {
        self.send(INFLATE, pfns);
    }

    pub(crate) fn deflate(&mut self, pfns: impl IntoIterator<Item = u32>) {
        self.send(DEFLATE, pfns);
    }

    /// Reports blocks of free pages: first page and number of pages each.
    pub(crate) fn report(&mut self, blocks: &[(u32, u32)]) {
        let queue = self.reporting();
        for (index, (first, pages)) in blocks.iter().enumerate() {
            let next = u16::try_from(index + 1).unwrap();
            let block = Descriptor {
                flags: 2,
                ..Descriptor::readable(u64::from(*first) * PAGE, pages * 4096)
            };
            let last = usize::from(next) == blocks.len();
            self.queues[queue].describe(next - 1, if last { block } else { block.then(next) });
        }
        self.exchange(queue);
    }
}

/// Writes a mark of its own into each page.
pub(crate) fn fill(ram: &Ram, pfns: impl IntoIterator<Item = u32>) {
    for pfn in pfns {
        ram.memory()
            .write_slice(&[mark(pfn); 4096], GuestAddress(u64::from(pfn) * PAGE))
            .unwrap();
    }
}

pub(crate) fn mark(pfn: u32) -> u8 {
    u8::try_from(pfn % 251).unwrap() + 1
}

/// The page's first and last byte.
pub(crate) fn ends(ram: &Ram, pfn: u32) -> [u8; 2] {
    [0, PAGE - 1].map(|at| {
        ram.memory()
            .read_obj(GuestAddress(u64::from(pfn) * PAGE + at))
            .unwrap()
    })
}

pub(crate) fn assert_filled(ram: &Ram, pfns: impl IntoIterator<Item = u32>) {
    for pfn in pfns {
        assert_eq!(ends(ram, pfn), [mark(pfn); 2], "page {pfn:#x} was lost");
    }
}

/// Resident bytes of the RAM's mappings, from smaps.
pub(crate) fn resident(ram: &Ram) -> u64 {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    let mut total = 0;
    for line in smaps.lines() {
        let first = line.split_whitespace().next().unwrap();
        if let Some((start, end)) = first.split_once('-') {
            let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
            inside = ram.regions().iter().any(|region| {
                let base = region.host_address();
                start < base + region.guest().len && base < end
            });
        } else if inside && (line.starts_with("Rss:") || line.starts_with("Shared_Hugetlb:")) {
            total += line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024;
        }
    }
    total
}

/// Bytes of the file behind the RAM's first region, from `st_blocks`.
pub(crate) fn file_bytes(ram: &Ram) -> u64 {
    let base = ram.regions()[0].host_address();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let range = maps
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .find(|range| {
            let (start, end) = range.split_once('-').unwrap();
            let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
            (start..end).contains(&base)
        });
    fs::metadata(format!("/proc/self/map_files/{}", range.unwrap()))
        .unwrap()
        .blocks()
        * 512
}

/// RAM of pages of 2 MiB.
pub(crate) fn huge_ram(mib: u64) -> Ram {
    open_ram(BackendKind::memfd(Some(PageSize::HUGE_2M)), mib)
}
