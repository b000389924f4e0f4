//! The balloon's device half by hand: no transport, no thread.

use std::sync::Mutex;

use memory::backend::BackendKind;
use memory::layout::PCI32_WINDOW_START;
use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use crate::fault::Faults;
use crate::interrupt::MsiVector;
use crate::testing::{
    Descriptor, Driver, DriverQueue, FakeDoorbells, FakeVector, anonymous_ram, fuzz, open_ram, wait_for,
};
use crate::virtio::common::QueueRegisters;
use crate::virtio::pci::VirtioPci;

use super::*;

mod backends;
mod model;
mod reporting;
mod stats;

const MIB: u64 = 1 << 20;
const RAM_MIB: u64 = 8;
/// Where page numbers are put, and the first page that tests give away.
const PFNS: u64 = 0x1_0000;
const FREE: u32 = 1024;
/// Places of the queues in a rig.
const INFLATE: usize = 0;
const DEFLATE: usize = 1;
const STATS: usize = 2;
const REPORTING: usize = 3;

fn spec() -> BalloonSpec {
    BalloonSpec {
        deflate_on_oom: true,
        ..BalloonSpec::new("balloon0")
    }
}

type News = Arc<Mutex<Vec<BalloonNews>>>;

fn balloon(ram: &Ram, spec: BalloonSpec) -> (BalloonHandle, Balloon, News) {
    let news = News::default();
    let log = Arc::clone(&news);
    let on_news = move |news| log.lock().unwrap().push(news);
    let (handle, balloon) = Balloon::new(spec, ram.clone(), Box::new(on_news)).unwrap();
    (handle, balloon, news)
}

/// The sizes that were told.
fn sizes(news: &News) -> Vec<u64> {
    let size = |news: &BalloonNews| match news {
        BalloonNews::Actual(size) => Some(size.bytes()),
        BalloonNews::Stalled(_) | BalloonNews::Distress(_) | BalloonNews::StatsUpdated => None,
    };
    news.lock().unwrap().iter().filter_map(size).collect()
}

/// A buffer that reports `pages` pages from page `first` on.
fn writable(first: u32, pages: u32) -> Descriptor {
    Descriptor {
        flags: 2,
        ..Descriptor::readable(u64::from(first) * PAGE, pages * 4096)
    }
}

/// A balloon without transport and thread, its queues served by hand.
struct Rig<'a> {
    ram: &'a Ram,
    handle: BalloonHandle,
    balloon: Balloon,
    faults: Faults,
    /// By role, whatever index the role has.
    drivers: [DriverQueue<'a>; 4],
    queues: Vec<VirtQueue>,
    news: News,
}

impl<'a> Rig<'a> {
    fn new(ram: &'a Ram, features: u64) -> Rig<'a> {
        Rig::with(ram, spec(), features)
    }

    fn with(ram: &'a Ram, spec: BalloonSpec, features: u64) -> Rig<'a> {
        let (handle, balloon, news) = balloon(ram, spec);
        let mut rig = Rig {
            ram,
            handle,
            balloon,
            faults: Faults::new(),
            drivers: Rig::drivers(ram),
            queues: Vec::new(),
            news,
        };
        rig.start(features);
        rig
    }

    fn drivers(ram: &'a Ram) -> [DriverQueue<'a>; 4] {
        [0x1000, 0x3000, 0x5000, 0x7000].map(|base| DriverQueue::new(ram, base, QUEUE_SIZE))
    }

    /// A driver with new rings comes.
    fn start(&mut self, features: u64) {
        self.drivers = Rig::drivers(self.ram);
        let roles = [Role::Inflate, Role::Deflate, Role::Stats, Role::Reporting];
        let mut queues: Vec<(usize, VirtQueue)> = (roles.iter().zip(&self.drivers))
            .filter_map(|(role, driver)| {
                let index = queues::index(*role, features)?;
                let registers = QueueRegisters {
                    max_size: QUEUE_SIZE,
                    size: QUEUE_SIZE,
                    enabled: true,
                    vector: 0,
                    rings: driver.rings(),
                };
                let number = u16::try_from(index).unwrap();
                let queue = VirtQueue::new(number, &registers, features, self.ram.memory());
                Some((index, queue.unwrap()))
            })
            .collect();
        queues.sort_by_key(|(index, _)| *index);
        self.queues = queues.into_iter().map(|(_, queue)| queue).collect();
        self.balloon.activate(features);
    }

    fn serve(&mut self) -> Result<(), QueueError> {
        self.balloon
            .process(self.ram.memory(), &mut self.queues, &self.faults)
    }

    /// Offers one chain with `pfns` and serves it.
    fn send(&mut self, queue: usize, pfns: &[u32]) {
        self.drivers[queue].describe_pfns(0, PFNS, pfns);
        self.drivers[queue].offer(0);
        self.serve().unwrap();
        assert_eq!(self.drivers[queue].take_used(), [(0, 0)]);
    }

    fn discarded(&self) -> u64 {
        self.handle.counters().discarded
    }

    fn fault(&self, name: &str) -> u64 {
        self.faults.get(name).unwrap()
    }
}

#[test]
fn offers_what_it_serves() {
    let ram = anonymous_ram(RAM_MIB);
    let (_, balloon, _) = balloon(&ram, spec());
    let description = balloon.description();
    let usual = F_STATS_VQ | F_PAGE_POISON | F_PAGE_REPORTING;
    assert_eq!(
        description.features,
        usual | F_DEFLATE_ON_OOM,
        "no large pages, no MUST_TELL_HOST"
    );
    assert_eq!((description.queue_sizes.len(), description.vectors()), (4, 5));
    assert_eq!(
        (balloon.config().len(), description.config_writable),
        (16, vec![4..8, 12..16])
    );
    let bare = BalloonSpec {
        page_poison: false,
        reporting: Reporting::Off("why not".into()),
        ..BalloonSpec::new("b")
    };
    let (_, balloon) = Balloon::new(bare, ram, Box::new(|_| {})).unwrap();
    let description = balloon.description();
    assert_eq!(
        (description.features, description.queue_sizes.len()),
        (F_STATS_VQ, 3)
    );
    assert_eq!(
        (balloon.config().len(), description.config_writable.len()),
        (8, 1)
    );
}

#[test]
fn inflated_pages_are_released_before_the_chain_is_returned() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, 0);
    rig.send(INFLATE, &[FREE, FREE + 2, FREE + 1, FREE + 1]);
    assert_eq!(rig.discarded(), 3 * PAGE);
    rig.send(DEFLATE, &[FREE, FREE + 1]);
    assert_eq!(rig.discarded(), 3 * PAGE);
    rig.send(INFLATE, &[]);
    assert_eq!(rig.faults.counts().iter().map(|(_, count)| count).sum::<u64>(), 0);
}

/// The page numbers of one array may be split over descriptors, and of many chains are released together.
#[test]
fn all_descriptors_of_all_chains_count() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, 0);
    let driver = &mut rig.drivers[INFLATE];
    for (index, next) in [(0, Some(1)), (1, Some(2)), (2, None), (3, None)] {
        let at = PFNS + 64 * u64::from(index);
        driver.describe_pfns(index, at, &[FREE + u32::from(index)]);
        if let Some(next) = next {
            driver.describe(index, Descriptor::readable(at, 4).then(next));
        }
    }
    driver.offer(0);
    driver.offer(3);
    rig.serve().unwrap();
    assert_eq!(rig.drivers[INFLATE].take_used(), [(0, 0), (3, 0)]);
    assert_eq!(rig.discarded(), 4 * PAGE);
}

/// Lengths up to 4 GiB, and such that are no whole number of page numbers: counted, skipped, returned.
#[test]
fn descriptors_are_bounded() {
    let ram = anonymous_ram(RAM_MIB);
    for length in [
        1,
        2,
        3,
        5,
        1023,
        1025,
        1028,
        2048,
        1 << 30,
        4_278_321_152,
        u32::MAX,
    ] {
        let mut rig = Rig::new(&ram, 0);
        rig.drivers[INFLATE].describe_pfns(0, PFNS, &[FREE; 600]);
        rig.drivers[INFLATE].describe(0, Descriptor::readable(PFNS, length));
        rig.drivers[INFLATE].offer(0);
        rig.serve().unwrap();
        assert_eq!(rig.drivers[INFLATE].take_used(), [(0, 0)]);
        assert_eq!((rig.fault("balloon-length"), rig.discarded()), (1, 0), "{length}");
    }
    let mut rig = Rig::new(&ram, 0);
    let pfns: Vec<u32> = (FREE..FREE + 256).collect();
    rig.send(INFLATE, &pfns);
    assert_eq!(
        (rig.fault("balloon-length"), rig.discarded()),
        (0, MIB),
        "256 page numbers are what Linux sends"
    );
}

#[test]
fn only_readable_buffers_inside_ram_are_read() {
    let ram = anonymous_ram(RAM_MIB);
    let end = RAM_MIB * MIB;
    let bad = [
        (PFNS, 2),
        (end, 0),
        (end - 4, 0),
        (0xc000_0000, 0),
        (0xfee0_0000, 0),
        (u64::MAX - 3, 0),
        (u64::MAX - 7, 0),
    ];
    for (address, flags) in bad {
        let mut rig = Rig::new(&ram, 0);
        rig.drivers[INFLATE].describe_pfns(0, PFNS, &[FREE, FREE]);
        rig.drivers[INFLATE].describe(
            0,
            Descriptor {
                flags,
                ..Descriptor::readable(address, 8)
            },
        );
        rig.drivers[INFLATE].offer(0);
        rig.serve().unwrap();
        assert_eq!(rig.drivers[INFLATE].take_used(), [(0, 0)]);
        assert_eq!(
            (rig.fault("virtio-chain"), rig.discarded()),
            (1, 0),
            "{address:#x} {flags}"
        );
    }
    let mut rig = Rig::new(&ram, 0);
    rig.drivers[INFLATE].describe_pfns(0, end - 4, &[FREE]);
    rig.drivers[INFLATE].offer(0);
    rig.serve().unwrap();
    assert_eq!(rig.discarded(), PAGE, "the last bytes of RAM are as good as any");
}

/// All flag combinations over two descriptors: no panic, and every chain comes back.
#[test]
fn every_flag_combination_is_survived() {
    let ram = anonymous_ram(RAM_MIB);
    for flags in 0..64_u16 {
        let mut rig = Rig::new(&ram, 0);
        for (index, flags) in [(0, flags & 7), (1, flags >> 3)] {
            let address = PFNS + 64 * u64::from(index);
            rig.drivers[INFLATE].describe_pfns(index, address, &[FREE + u32::from(index)]);
            let next = 1 - index;
            rig.drivers[INFLATE].describe(
                index,
                Descriptor {
                    address,
                    length: 4,
                    flags,
                    next,
                },
            );
        }
        rig.drivers[INFLATE].offer(0);
        rig.serve().unwrap();
        assert_eq!(rig.drivers[INFLATE].take_used(), [(0, 0)], "{flags:#o}");
    }
}

/// Page numbers are shifted in 64 bits and clamped to RAM.
#[test]
fn page_numbers_outside_ram_are_counted() {
    let ram = anonymous_ram(RAM_MIB);
    let last = u32::try_from(RAM_MIB * MIB / PAGE).unwrap() - 1;
    let mut rig = Rig::new(&ram, 0);
    rig.send(INFLATE, &[last, last + 1, last + 2]);
    assert_eq!((rig.discarded(), rig.fault("balloon-outside")), (PAGE, 1));
    // Shifted in 32 bits, this would be page 1024.
    rig.send(INFLATE, &[FREE + (1 << 20), u32::MAX, 0xc_0000, 0xf_ee00]);
    assert_eq!((rig.discarded(), rig.fault("balloon-outside")), (PAGE, 2));
}

/// Chains that share descriptors could name 128 × 128 × 256 pages: the work stays that of one full queue.
#[test]
fn shared_descriptors_do_not_multiply_the_work() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, 0);
    let driver = &mut rig.drivers[INFLATE];
    driver.describe_pfns(0, PFNS, &[FREE; 256]);
    for index in 0..QUEUE_SIZE {
        let next = index + 1;
        let descriptor = Descriptor::readable(PFNS, 1024);
        driver.describe(
            index,
            if next < QUEUE_SIZE {
                descriptor.then(next)
            } else {
                descriptor
            },
        );
    }
    (0..QUEUE_SIZE).for_each(|_| driver.offer(0));
    rig.serve().unwrap();
    assert_eq!(rig.drivers[INFLATE].take_used().len(), usize::from(QUEUE_SIZE));
    assert_eq!(rig.fault("virtio-chain"), u64::from(QUEUE_SIZE) - 1);
    assert_eq!(rig.discarded(), PAGE);
}

#[test]
fn a_full_queue_is_no_fault() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, 0);
    for index in 0..QUEUE_SIZE {
        let at = PFNS + 4 * u64::from(index);
        rig.drivers[INFLATE].describe_pfns(index, at, &[FREE + u32::from(index)]);
        rig.drivers[INFLATE].offer(index);
    }
    rig.serve().unwrap();
    assert_eq!(
        (rig.discarded(), rig.fault("virtio-chain")),
        (u64::from(QUEUE_SIZE) * PAGE, 0)
    );
}

#[test]
fn a_head_that_is_no_descriptor_does_not_keep_the_others() {
    let ram = anonymous_ram(RAM_MIB);
    let mut rig = Rig::new(&ram, 0);
    rig.drivers[INFLATE].describe_pfns(1, PFNS, &[FREE]);
    rig.drivers[INFLATE].offer(QUEUE_SIZE);
    rig.drivers[INFLATE].offer(1);
    assert!(matches!(rig.serve(), Err(QueueError::AddUsed { .. })));
    assert_eq!(rig.drivers[INFLATE].take_used(), [(1, 0)]);
    assert_eq!(rig.discarded(), PAGE);
}

#[test]
fn the_claim_is_clamped_to_ram() {
    let ram = anonymous_ram(RAM_MIB);
    let (handle, mut balloon, news) = balloon(&ram, spec());
    let write = |balloon: &mut Balloon, actual: u32| {
        balloon.config_written(&[[0; 4], actual.to_le_bytes()].concat());
    };
    write(&mut balloon, 256);
    assert_eq!(handle.actual().bytes(), (RAM_MIB - 1) * MIB);
    write(&mut balloon, u32::MAX);
    assert_eq!(
        (handle.actual().bytes(), handle.counters().inflated),
        (0, RAM_MIB * MIB)
    );
    write(&mut balloon, u32::MAX - 1);
    write(&mut balloon, 0);
    assert_eq!(sizes(&news).first(), Some(&(7 * MIB)), "told at once");
    wait_for("the last change", || {
        balloon.handle_event();
        sizes(&news).last() == Some(&(RAM_MIB * MIB))
    });
    let told = sizes(&news).len();
    write(&mut balloon, 0);
    balloon.handle_event();
    assert_eq!(sizes(&news).len(), told, "told when it changes, and only then");
}

#[test]
fn reset_empties_the_balloon_and_keeps_the_target() {
    let ram = anonymous_ram(RAM_MIB);
    let (handle, mut balloon, _) = balloon(&ram, spec());
    handle.set_target(ByteSize::from_bytes(2 * MIB)).unwrap();
    balloon.handle_event();
    balloon.activate(0);
    assert!(handle.driver_ready());
    balloon.config_written(&[[0; 4], 256_u32.to_le_bytes()].concat());
    balloon.reset();
    assert!(!handle.driver_ready());
    assert_eq!(handle.actual(), ram.size());
    assert_eq!(handle.target().bytes(), 2 * MIB);
    assert_eq!(handle.actual().bytes(), 8 * MIB);
    assert_eq!(balloon.config(), [[0, 6, 0, 0], [0; 4], [0; 4], [0; 4]].concat());
}

/// Once it has seen as much as it is going to see, a kick allocates nothing: not for the pages, not for the release.
#[test]
fn a_kick_allocates_nothing() {
    for kind in [BackendKind::Ram, BackendKind::memfd(None)] {
        let ram = open_ram(kind, RAM_MIB);
        let mut rig = Rig::new(&ram, F_PAGE_REPORTING);
        let pfns: Vec<u32> = (0..256).map(|page| FREE + 2 * page % 512).collect();
        let kick = |rig: &mut Rig<'_>, queue: usize| {
            match queue {
                REPORTING => rig.drivers[queue].describe(0, writable(FREE, 64)),
                _ => rig.drivers[queue].describe_pfns(0, PFNS, &pfns),
            }
            rig.drivers[queue].offer(0);
            allocation_counter::measure(|| rig.serve().unwrap()).count_total
        };
        let queues = [INFLATE, DEFLATE, REPORTING];
        // Twice, because the two directions swap buffers.
        let warm_up = [queues, queues].concat();
        let first: u64 = warm_up.iter().map(|queue| kick(&mut rig, *queue)).sum();
        assert!(first > 0, "nothing is counted");
        for _ in 0..20 {
            for queue in queues {
                assert_eq!(kick(&mut rig, queue), 0, "queue {queue}");
            }
        }
        assert!(rig.discarded() > 20 * 256 * PAGE && rig.handle.counters().reported > 20 * 64 * PAGE);
    }
}

/// The whole way: PCI registers, doorbell, worker, balloon, interrupts, handle.
#[test]
fn works_behind_its_transport() {
    let ram = anonymous_ram(RAM_MIB);
    let (handle, balloon, news) = balloon(&ram, spec());
    let vectors: Vec<Arc<FakeVector>> = (0..3).map(|_| Arc::default()).collect();
    let lines = vectors
        .iter()
        .map(|vector| Arc::clone(vector) as Arc<dyn MsiVector>)
        .collect();
    let bells = Arc::new(FakeDoorbells::default());
    handle.set_target(ByteSize::from_bytes(6 * MIB)).unwrap();
    let device = VirtioPci::new(
        Box::new(balloon),
        ram.clone(),
        lines,
        bells.clone(),
        Arc::default(),
        PCI32_WINDOW_START,
    );
    let device = device.unwrap();
    let driver = Driver::new(&device);
    driver.set_memory_enabled(true);
    driver.enable_msix(3);
    let [mut inflate, mut deflate] = [0x1000, 0x3000].map(|base| DriverQueue::new(&ram, base, QUEUE_SIZE));
    driver.start(F_DEFLATE_ON_OOM, &[&inflate, &deflate]);
    wait_for("the driver", || handle.driver_ready());
    wait_for("the target set before", || driver.device_config(0) == 512);

    let pfns: Vec<u32> = (FREE..FREE + 256).collect();
    inflate.describe_pfns(0, PFNS, &pfns);
    inflate.offer(0);
    assert!(bells.ring(PCI32_WINDOW_START + 0x3000));
    wait_for("the inflate", || inflate.used_index() == 1);
    assert_eq!(handle.counters().discarded, MIB);
    wait_for("its interrupt", || vectors[1].triggers() >= 1);
    // A whole ring is worth one.
    let before = vectors[1].triggers();
    for index in 0..QUEUE_SIZE {
        inflate.describe_pfns(index, PFNS + 4 * u64::from(index), &[FREE + u32::from(index)]);
        inflate.offer(index);
    }
    driver.notify(0);
    wait_for("the ring", || inflate.used_index() == 1 + QUEUE_SIZE);
    wait_for("its interrupt", || vectors[1].triggers() > before);
    assert_eq!(vectors[1].triggers(), before + 1);
    driver.set_device_config(4, 256);
    wait_for("the news", || sizes(&news) == [7 * MIB]);
    assert_eq!(handle.actual().bytes(), 7 * MIB);

    handle.set_target(ByteSize::from_bytes(8 * MIB)).unwrap();
    wait_for("the next target", || {
        vectors[0].triggers() >= 1 && driver.device_config(0) == 0
    });
    deflate.describe_pfns(0, PFNS, &pfns);
    deflate.offer(0);
    driver.notify(1);
    wait_for("the deflate", || deflate.used_index() == 1);
    driver.set_device_config(0, 1);
    assert_eq!(driver.device_config(0), 0, "num_pages is the device's");

    handle.set_target(ByteSize::from_bytes(5 * MIB)).unwrap();
    driver.reset();
    assert_eq!(handle.actual(), ram.size());
    wait_for("the news", || sizes(&news) == [7 * MIB, 8 * MIB]);
    wait_for("the target offered again", || driver.device_config(0) == 768);
    assert_eq!(driver.device_config(4), 0);
}

proptest! {
    /// What the fuzz target does, with ordinary random bytes.
    #[test]
    fn random_operations_are_survived(data in prop::collection::vec(any::<u8>(), 0..3000)) {
        fuzz::balloon_pages(&data);
    }
}
