use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::mapping::{MapFile, MapRequest};
use crate::proc;

#[test]
fn the_remainder_is_spread() {
    // 160 units on 64 threads: 32 have three, 32 have two.
    let shares = split(160 * 100, 100, 64);
    assert_eq!(shares.len(), 64);
    assert_eq!(shares.iter().filter(|share| share.len == 300).count(), 32);
    assert_eq!(shares.iter().filter(|share| share.len == 200).count(), 32);
    assert_eq!(split(50, 100, 8), [Span { offset: 0, len: 50 }]);
}

proptest! {
    #[test]
    fn shares_cover_everything_and_differ_by_one_unit(len in 1_u64..1 << 40, unit in 1_u64..1 << 22, threads in 1_u64..300) {
        let shares = split(len, unit, threads);
        prop_assert!(shares.len() as u64 <= threads);
        let mut next = 0;
        for share in &shares {
            prop_assert_eq!(share.offset, next);
            prop_assert!(share.len > 0);
            next = share.end();
        }
        prop_assert_eq!(next, len);
        let units = shares.iter().map(|share| share.len.div_ceil(unit));
        prop_assert!(units.clone().max().unwrap() - units.min().unwrap() <= 1);
    }
}

/// Remembers what it hears.
#[derive(Default)]
struct Ears<'a> {
    /// Cancels when so many bytes are there.
    enough: Option<(u64, &'a Meter)>,
    stages: Mutex<Vec<(String, OpenStage)>>,
    progress: Mutex<Vec<(String, u64)>>,
}

impl OpenObserver for Ears<'_> {
    fn stage(&self, backend: &str, stage: OpenStage) {
        self.stages.lock().unwrap().push((backend.to_owned(), stage));
    }
    fn prealloc(&self, backend: &str, done: ByteSize, total: ByteSize) {
        assert!(done <= total);
        self.progress
            .lock()
            .unwrap()
            .push((backend.to_owned(), done.bytes()));
        if let Some((enough, meter)) = self.enough
            && backend == "a"
            && done.bytes() >= enough
        {
            meter.cancel();
        }
    }
}

fn mapping(mib: u64) -> Mapping {
    Mapping::new(&MapRequest {
        size: ByteSize::mib(mib),
        page: PageSize::BASE,
        align: None,
        guest_start: 0,
        file: None,
        reserve: true,
    })
    .unwrap()
}

fn job<'a>(id: &'a str, mapping: &'a Mapping, threads: usize, meter: &'a Meter) -> Job<'a> {
    Job {
        id,
        mapping,
        page: PageSize::BASE,
        threads: NonZeroUsize::new(threads),
        nodes: None,
        meter,
        beside: None,
    }
}

#[test]
fn fills_several_mappings_and_tells_how_far_it_is() {
    let (first, second) = (mapping(70), mapping(3));
    let ears = Ears::default();
    let meters = [Meter::default(), Meter::default()];
    let jobs = [job("a", &first, 3, &meters[0]), job("b", &second, 0, &meters[1])];
    run(&jobs, &ears, &|_| true).unwrap();
    for (mapping, meter) in [&first, &second].into_iter().zip(&meters) {
        assert_eq!(meter.done(), mapping.len());
        assert_eq!(proc::smaps(mapping).unwrap().size("Rss").bytes(), mapping.len());
    }
    let stages = ears.stages.into_inner().unwrap();
    assert_eq!(stages.len(), 4, "each stage of each backend once: {stages:?}");
    let last = ears
        .progress
        .into_inner()
        .unwrap()
        .into_iter()
        .map(|(_, done)| done)
        .max();
    assert_eq!(last, Some(first.len()));
}

#[test]
fn nothing_to_do_is_done() {
    run(&[], &(), &|_| true).unwrap();
}

#[test]
fn a_page_that_cannot_be_had_ends_it() {
    let memfd = rustix::fs::memfd_create(c"short", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&memfd, 16 << 20).unwrap();
    let short = Mapping::new(&MapRequest {
        size: ByteSize::mib(32),
        page: PageSize::BASE,
        align: None,
        guest_start: 0,
        file: Some(MapFile::own(std::os::fd::AsFd::as_fd(&memfd))),
        reserve: false,
    })
    .unwrap();
    let (meter, small) = (Meter::default(), mapping(2));
    let jobs = [job("a", &small, 1, &meter), job("b", &short, 2, &meter)];
    let Failure { job, offset, source } = run(&jobs, &(), &|_| true).unwrap_err();
    assert_eq!((job, source.raw_os_error()), (1, Some(libc::EFAULT)));
    assert!(offset <= 16 << 20, "{offset}");
}

#[test]
fn one_that_is_cancelled_stops_and_the_others_do_not() {
    let (large, other) = (mapping(256), mapping(96));
    let meters = [Meter::default(), Meter::default()];
    let ears = Ears {
        enough: Some((64 << 20, &meters[0])),
        ..Ears::default()
    };
    let jobs = [job("a", &large, 1, &meters[0]), job("b", &other, 1, &meters[1])];
    run(&jobs, &ears, &|_| true).unwrap();
    assert_eq!(meters.each_ref().map(Meter::done), [64 << 20, 96 << 20]);
    for (mapping, mib) in [(&large, 64), (&other, 96)] {
        assert_eq!(proc::smaps(mapping).unwrap().size("Rss"), ByteSize::mib(mib));
    }
    // Once more, and from the beginning.
    meters[0].reset();
    run(&jobs[..1], &(), &|_| true).unwrap();
    assert_eq!(meters[0].done(), large.len());
}

#[test]
fn workers_go_to_the_cpus_of_their_nodes() {
    let ours = sched_getaffinity(None).unwrap();
    assert_eq!(worker_cpus(&ours, None), ours);
    let nowhere = NodeSet::from_iter([999]);
    assert_eq!(worker_cpus(&ours, Some(&nowhere)), ours, "a node without CPUs");
    let all = worker_cpus(&ours, Some(&numa::nodes()));
    let set = |cpus: &CpuSet| {
        (0..CpuSet::MAX_CPU)
            .filter(|cpu| cpus.is_set(*cpu))
            .collect::<BTreeSet<_>>()
    };
    assert!(set(&all).is_subset(&set(&ours)));
}
