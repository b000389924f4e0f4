//! A guest and its balloon against a model of what is the guest's: whatever is done, in whatever order, a page that the
//! model says is live holds what the guest wrote last. All kinds of memory are in one guest.

use memory::backend::{BackendSpec, FileSpec, Lock, Prealloc};
use memory::size::PageSize;

use crate::testing::HugePages;

use super::*;

/// Page numbers that a descriptor carries.
const CHAIN: usize = 256;
/// Steps between two looks at every page.
const LOOK: u32 = 512;

/// xorshift64*: the same steps for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(((self.next() >> 32) * u64::from(end)) >> 32).unwrap()
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.below(one_in) == 0
    }
}

/// What the model knows of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// The guest's, with this written into it.
    Live(u64),
    Ballooned,
}

struct World<'a> {
    rig: Rig<'a>,
    random: Random,
    features: u64,
    pages: Vec<Page>,
    poison: bool,
    inhibitor: Option<InhibitGuard>,
    /// The pieces of a large page. As many at the start of RAM are for rings and buffers.
    large: u32,
}

impl<'a> World<'a> {
    fn new(ram: &'a Ram, seed: u64, large: u32) -> World<'a> {
        let count = ram.size().bytes() / PAGE - u64::from(large);
        let mut world = World {
            rig: Rig::new(ram, 0),
            random: Random(seed | 1),
            features: 0,
            pages: vec![Page::Ballooned; usize::try_from(count).unwrap()],
            poison: false,
            inhibitor: None,
            large,
        };
        world.restart();
        world
    }

    fn ram(&self) -> &'a Ram {
        self.rig.ram
    }

    fn count(&self) -> u32 {
        u32::try_from(self.pages.len()).unwrap()
    }

    fn must_tell(&self) -> bool {
        self.features & F_MUST_TELL_HOST != 0
    }

    /// The addresses of a page's two marks: its first and its last bytes.
    fn marks(&self, page: u32) -> [GuestAddress; 2] {
        let start = u64::from(self.large + page) * PAGE;
        [start, start + PAGE - 8].map(GuestAddress)
    }

    /// The guest writes something new into a page of its own.
    fn write(&mut self, page: u32) {
        let value = self.random.next();
        for mark in self.marks(page) {
            self.ram().memory().write_obj(value, mark).unwrap();
        }
        self.pages[page as usize] = Page::Live(value);
    }

    fn check(&self, page: u32) {
        if let Page::Live(value) = self.pages[page as usize] {
            for mark in self.marks(page) {
                let found: u64 = self.ram().memory().read_obj(mark).unwrap();
                assert_eq!(found, value, "page {page:#x} was lost");
            }
        }
    }

    /// Pages in the state that `wanted` likes: a run, or every second of one, sometimes backwards. Often just what is left
    /// of a large page.
    fn some(&mut self, wanted: fn(Page) -> bool) -> Vec<u32> {
        let start = self.random.below(self.count());
        let (start, length) = match self.random.below(16) {
            0 => (start, 1 + self.random.below(2 * self.large)),
            1..3 => (start - start % self.large, self.large),
            3..6 => (start, 1 + self.random.below(64)),
            _ => (start, 1 + self.random.below(8)),
        };
        let step = 1 + usize::from(length < self.large && self.random.chance(4));
        let end = start.saturating_add(length).min(self.count());
        let liked = (start..end)
            .step_by(step)
            .filter(|page| wanted(self.pages[*page as usize]));
        let mut pages: Vec<u32> = liked.collect();
        // All but a few of a large page: one that is wrongly taken for complete loses those.
        if length >= self.large && self.random.chance(2) {
            let few = 1 + self.large / 8;
            pages.retain(|_| !self.random.chance(few));
        }
        if self.random.chance(3) {
            pages.reverse();
        }
        pages
    }

    /// Describes and offers as many of `pages` as a ring takes. Returns how many those are.
    fn offer(&mut self, queue: usize, pages: &[u32]) -> usize {
        let chains = pages.chunks(CHAIN).take(usize::from(QUEUE_SIZE));
        for (index, chain) in (0..).zip(chains.clone()) {
            let pfns: Vec<u32> = chain.iter().map(|page| self.large + page).collect();
            // A buffer for each chain of each queue, all below the pages of the model.
            let buffer = 0x2_0000 * (1 + queue as u64) + 1024 * u64::from(index);
            self.rig.drivers[queue].describe_pfns(index, buffer, &pfns);
            self.rig.drivers[queue].offer(index);
        }
        chains.map(<[u32]>::len).sum()
    }

    fn serve(&mut self) {
        self.rig.serve().unwrap();
        for driver in &mut self.rig.drivers {
            driver.take_used();
            let given = driver.available == driver.used_index();
            assert!(given, "a chain was kept");
        }
    }

    fn inflate(&mut self) {
        let pages = self.some(|page| page != Page::Ballooned);
        self.give(&pages);
    }

    /// The driver gives all that it has, and large pages go when their last piece does.
    fn inflate_everything(&mut self) {
        self.inhibitor = None;
        while !self.must_tell() {
            self.restart();
        }
        let all: Vec<u32> = (0..self.count()).collect();
        self.give(&all);
    }

    fn give(&mut self, pages: &[u32]) {
        for some in pages.chunks(CHAIN * usize::from(QUEUE_SIZE)) {
            self.offer(INFLATE, some);
            self.serve();
            some.iter()
                .for_each(|page| self.pages[*page as usize] = Page::Ballooned);
        }
    }

    fn deflate(&mut self) {
        let pages = self.some(|page| page == Page::Ballooned);
        self.take(&pages);
    }

    fn take(&mut self, pages: &[u32]) {
        for some in pages.chunks(CHAIN * usize::from(QUEUE_SIZE)) {
            self.offer(DEFLATE, some);
            self.serve();
            some.iter().for_each(|page| self.write(*page));
        }
    }

    /// A large page that is all the guest's, since it takes back what it gave of it.
    fn whole(&mut self) -> Vec<u32> {
        let first = self.random.below(self.count() / self.large) * self.large;
        let pages: Vec<u32> = (first..first + self.large).collect();
        let gone = |page: &u32| self.pages[*page as usize] == Page::Ballooned;
        let gone: Vec<u32> = pages.iter().copied().filter(gone).collect();
        self.take(&gone);
        pages
    }

    /// Both queues wait when the device looks: what is on its way back is the guest's afterwards.
    fn both(&mut self) {
        let back = self.some(|page| page == Page::Ballooned);
        let gone = self.some(|page| page != Page::Ballooned);
        let back_count = self.offer(DEFLATE, &back);
        let gone_count = self.offer(INFLATE, &gone);
        self.serve();
        gone[..gone_count]
            .iter()
            .for_each(|page| self.pages[*page as usize] = Page::Ballooned);
        back[..back_count].iter().for_each(|page| self.write(*page));
    }

    /// Reports live pages as free, sometimes with ends inside pages: what was not reported whole has to stay.
    fn report(&mut self) {
        if self.features & F_PAGE_REPORTING == 0 {
            return;
        }
        let mut pages = match self.random.chance(8) {
            true => self.whole(),
            false => self.some(|page| page != Page::Ballooned),
        };
        pages.sort_unstable();
        let runs: Vec<&[u32]> = pages.chunk_by(|a, b| a + 1 == *b).take(32).collect();
        let mut partly = Vec::new();
        for (index, run) in runs.iter().enumerate() {
            let (start, pages) = (u64::from(self.large + run[0]) * PAGE, run.len() as u64);
            let cut = if self.random.chance(8) { 512 } else { 0 };
            if cut > 0 {
                partly.extend([run[0], run[run.len() - 1]]);
            }
            let number = u16::try_from(index).unwrap();
            let length = u32::try_from(pages * PAGE - 2 * cut).unwrap();
            let block = Descriptor {
                flags: 2,
                ..Descriptor::readable(start + cut, length)
            };
            let last = index + 1 == runs.len();
            self.rig.drivers[REPORTING].describe(number, if last { block } else { block.then(number + 1) });
        }
        if runs.is_empty() {
            return;
        }
        self.rig.drivers[REPORTING].offer(0);
        self.serve();
        let kept = self.inhibitor.is_some() || self.poison && self.features & F_PAGE_POISON != 0;
        for page in runs.concat() {
            if kept || partly.contains(&page) {
                self.check(page);
            }
            self.write(page);
        }
    }

    /// Without MUST_TELL_HOST a driver may use pages again and say so later, or never.
    fn take_untold(&mut self) {
        if !self.must_tell() {
            let pages = self.some(|page| page == Page::Ballooned);
            pages.iter().for_each(|page| self.write(*page));
        }
    }

    /// Page numbers that are not RAM, some twice, and a deflate that cannot be read.
    fn misbehave(&mut self) {
        let gone = self.some(|page| page != Page::Ballooned);
        let mut pfns = [gone.clone(), gone.clone(), vec![u32::MAX - self.large, 1 << 20]].concat();
        pfns.truncate(CHAIN);
        self.offer(INFLATE, &pfns);
        // More than a descriptor may carry: the device does not know which pages these are.
        let mut back = self.some(|page| page == Page::Ballooned);
        back.truncate(CHAIN);
        let mut numbers: Vec<u32> = back.iter().map(|page| self.large + page).collect();
        numbers.resize(CHAIN + 1, u32::MAX);
        self.rig.drivers[DEFLATE].describe_pfns(0, PFNS, &numbers);
        self.rig.drivers[DEFLATE].offer(0);
        self.serve();
        let named = gone.iter().filter(|page| pfns.contains(page));
        named.for_each(|page| self.pages[*page as usize] = Page::Ballooned);
        back.iter().for_each(|page| self.write(*page));
    }

    /// The driver goes and comes back with other features; all memory is the guest's in between.
    fn restart(&mut self) {
        self.rig.balloon.reset();
        let choices = [
            F_MUST_TELL_HOST,
            F_STATS_VQ,
            F_PAGE_POISON,
            F_PAGE_REPORTING,
            F_DEFLATE_ON_OOM,
        ];
        // Mostly what Linux takes: everything.
        let some = |random: &mut Random| random.below(1 << choices.len()) as usize;
        let chosen = if self.random.chance(2) {
            usize::MAX
        } else {
            some(&mut self.random)
        };
        let bits = choices
            .iter()
            .enumerate()
            .filter(|(bit, _)| chosen >> bit & 1 != 0);
        self.features = bits.fold(0, |features, (_, feature)| features | feature);
        self.poison = false;
        for page in 0..self.count() {
            if self.pages[page as usize] == Page::Ballooned {
                self.write(page);
            }
        }
        self.rig.start(self.features);
    }

    /// What the driver writes into its configuration.
    fn configure(&mut self) {
        self.poison = self.random.chance(4);
        let inside = self.pages.iter().filter(|page| **page == Page::Ballooned).count();
        let actual = u32::try_from(inside).unwrap().to_le_bytes();
        let poison = (if self.poison { 0xaaaa_aaaa_u32 } else { 0 }).to_le_bytes();
        self.rig
            .balloon
            .config_written(&[[0; 4], actual, [0; 4], poison].concat());
    }

    fn inhibit(&mut self) {
        self.inhibitor = Some(self.rig.handle.inhibit("model"));
    }

    fn step(&mut self) {
        match self.random.below(1000) {
            0..430 => self.inflate(),
            430..730 => self.deflate(),
            730..830 => self.report(),
            830..900 => self.both(),
            900..950 => self.take_untold(),
            950..970 => self.misbehave(),
            970..980 => self.configure(),
            980..985 => self.inhibit(),
            985..995 => self.inhibitor = None,
            _ => self.restart(),
        }
        for _ in 0..4 {
            let page = self.random.below(self.count());
            self.check(page);
        }
    }

    fn run(&mut self, steps: u32) {
        for step in 0..steps {
            self.step();
            if step % LOOK == 0 {
                (0..self.count()).for_each(|page| self.check(page));
            }
        }
        (0..self.count()).for_each(|page| self.check(page));
    }
}

fn backend(id: &str, kind: BackendKind, mib: u64) -> BackendSpec {
    BackendSpec::new(id, kind, ByteSize::mib(mib))
}

fn locked(id: &str, kind: BackendKind, mib: u64) -> BackendSpec {
    BackendSpec {
        prealloc: Prealloc::On,
        lock: Lock::On,
        ..backend(id, kind, mib)
    }
}

/// In a file with a name, in a directory; the name goes when the memory is there.
fn named(directory: &str, share: bool) -> BackendSpec {
    let path = format!("{directory}/ballast-model-{}", std::process::id());
    let mut file = FileSpec::new(path);
    file.discard = share;
    BackendSpec {
        share: Some(share),
        ..backend(directory, BackendKind::File(file), 2)
    }
}

/// A guest over every kind of memory there is, `huge` pages of 2 MiB among it.
fn every_kind(huge: u64) -> Ram {
    let specs = vec![
        backend("anonymous", BackendKind::Ram, 8),
        backend("huge", BackendKind::memfd(Some(PageSize::HUGE_2M)), 2 * huge),
        backend("memfd", BackendKind::memfd(None), 6),
        backend("tmpfs", BackendKind::file("/dev/shm"), 6),
        locked("locked", BackendKind::Ram, 2),
        locked("locked-memfd", BackendKind::memfd(None), 2),
        named("/dev/shm", true),
        // Gives nothing back: the file's bytes would come in place of the guest's.
        named("/var/tmp", false),
    ];
    let ram = Ram::open(specs.clone(), &()).unwrap();
    for spec in specs {
        if let BackendKind::File(file) = spec.kind {
            // Of a directory there is no file with this name.
            let _ = std::fs::remove_file(file.path);
        }
    }
    ram
}

fn survives(seed: u64, steps: u32) {
    let _pool = HugePages::take(8);
    let ram = every_kind(6);
    println!("seed {seed}");
    let mut world = World::new(&ram, seed, 512);
    world.run(steps);
    let done = world.rig.handle.counters();
    assert!(done.discarded > 0 && done.reported > 0 && done.inhibited > 0 && done.poisoned > 0);
    let by_backend = world.rig.handle.by_backend();
    for (figures, backend) in by_backend.iter().zip(ram.backends()) {
        let gives = backend.keeps().is_none();
        let gave = (figures.discarded > 0, figures.reported > 0);
        assert_eq!(gave, (gives, gives), "{}: {figures:?}", backend.spec().id);
    }
    assert!(done.refused > 0);
}

/// The same few steps always; `cargo lab test --long` sets the variable, and then it is a million others.
#[test]
fn live_pages_survive_whatever_the_order() {
    match std::env::var_os("BALLAST_TEST_LONG") {
        None => survives(20_261, 6_000),
        Some(_) => survives(std::process::id().into(), 1_000_000),
    }
}

/// A page of 1 GiB has 262144 pieces; the lab host has two such pages.
#[test]
#[ignore = "needs the lab: cargo lab test --long"]
fn long_pages_of_a_gibibyte_lose_nothing() {
    let ram = open_ram(BackendKind::memfd(Some(PageSize::HUGE_1G)), 2048);
    let mut world = World::new(&ram, std::process::id().into(), 262_144);
    world.run(400);
    world.inflate_everything();
    assert!(world.rig.handle.counters().discarded >= 1 << 30, "no page went");
}
