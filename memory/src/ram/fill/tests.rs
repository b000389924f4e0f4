use std::sync::mpsc::{self, Receiver};

use super::*;
use crate::backend::{BackendKind, BackendSpec};
use crate::range::GuestRange;
use crate::release::{Reason, Releaser};
use crate::testing::{HUGE, HUGE_MEMFD, HugePages, MEMFD, MIB, Mount, directory, open, resident, spec};

const PATIENCE: Duration = Duration::from_secs(60);

/// A guest whose preallocations are heard of.
fn guest(spec: BackendSpec) -> (Ram, PreallocListener, Receiver<PreallocReport>) {
    let (sender, reports) = mpsc::channel();
    let listener: PreallocListener = Arc::new(move |report| sender.send(report).unwrap());
    (open(spec).unwrap(), listener, reports)
}

fn background(kind: BackendKind, mib: u64) -> BackendSpec {
    let mut spec = spec(kind, mib);
    spec.prealloc = Prealloc::Background;
    spec
}

fn give(ram: &Ram, start: u64, len: u64, reason: Reason) {
    let mut releaser = Releaser::new(ram.clone());
    let released = releaser.release(&[GuestRange::between(start, start + len)], reason);
    assert_eq!(released.discarded, len);
}

#[test]
fn all_pages_come_beside_the_guest() {
    let _pool = HugePages::with_free(16);
    for (kind, mib) in [(BackendKind::Ram, 64), (MEMFD, 64), (HUGE_MEMFD, 32)] {
        let (ram, listener, reports) = guest(background(kind, mib));
        assert_eq!(resident(&ram), 0);
        assert_eq!(ram.backends()[0].prealloc().state, PreallocState::None);
        ram.fill_beside_guest(&listener).unwrap();
        let report = reports.recv_timeout(PATIENCE).unwrap();
        assert_eq!(report.state, PreallocState::Done);
        let sizes = (report.size, report.populated, report.skipped);
        assert_eq!(sizes, (ByteSize::mib(mib), ByteSize::mib(mib), ByteSize::ZERO));
        assert!(report.rate() > 0 && report.eta().is_none(), "{report:?}");
        assert_eq!(resident(&ram), mib * MIB);
        assert!(ram.backends()[0].effective().prealloc);
        assert_eq!(ram.backends()[0].prealloc(), report);
    }
}

#[test]
fn what_was_given_back_stays_given() {
    let (ram, listener, reports) = guest(background(MEMFD, 32));
    give(&ram, 0, HUGE, Reason::Inflated);
    give(&ram, 10 * MIB, 4096, Reason::Inflated);
    // What was free before is wanted all the same.
    give(&ram, 20 * MIB, HUGE, Reason::Reported);
    ram.fill_beside_guest(&listener).unwrap();
    let report = reports.recv_timeout(PATIENCE).unwrap();
    assert_eq!(report.state, PreallocState::Done);
    assert_eq!(
        (report.populated, report.skipped),
        (ByteSize::mib(28), ByteSize::mib(4))
    );
    assert_eq!(resident(&ram), 28 * MIB);
    give(&ram, 20 * MIB, HUGE, Reason::Reported);
    assert_eq!(resident(&ram), 26 * MIB);
    ram.all_in_use();
    ram.backends()[0].set_prealloc(true).unwrap();
    let report = reports.recv_timeout(PATIENCE).unwrap();
    assert_eq!(report.skipped, ByteSize::ZERO);
    assert_eq!(resident(&ram), 32 * MIB);
}

/// Nothing that goes back while the memory is filled is there at the end, whoever was first.
#[test]
fn releases_win_against_the_filling() {
    const SIZE: u64 = 256 * MIB;
    for threads in [1, 3] {
        let mut asked = background(MEMFD, SIZE / MIB);
        asked.prealloc_threads = std::num::NonZeroUsize::new(threads);
        let (ram, listener, reports) = guest(asked);
        ram.fill_beside_guest(&listener).unwrap();
        // Every fifth block, from both ends.
        let blocks: Vec<u64> = (0..SIZE / HUGE).filter(|block| block % 5 == 0).collect();
        let reasons = [Reason::Inflated, Reason::Reported];
        std::thread::scope(|scope| {
            for (reason, half) in reasons.into_iter().zip(blocks.chunks(blocks.len().div_ceil(2))) {
                let ram = &ram;
                scope.spawn(move || {
                    for block in half {
                        give(ram, block * HUGE, HUGE, reason);
                    }
                });
            }
        });
        let report = reports.recv_timeout(PATIENCE).unwrap();
        assert_eq!(report.state, PreallocState::Done);
        assert_eq!(resident(&ram), SIZE - blocks.len() as u64 * HUGE, "{report:?}");
    }
}

#[test]
fn a_cancelled_one_ends_and_says_so() {
    let (ram, listener, reports) = guest(spec(BackendKind::Ram, 4096));
    ram.fill_beside_guest(&listener).unwrap();
    let backend = &ram.backends()[0];
    assert!(!backend.cancel_fill(), "nothing goes on");
    backend.set_prealloc(true).unwrap();
    assert!(backend.cancel_fill());
    let report = reports.recv_timeout(PATIENCE).unwrap();
    assert_eq!(report.state, PreallocState::Cancelled);
    assert!(report.populated < report.size, "{report:?}");
    backend.set_prealloc(false).unwrap();
    assert_eq!(backend.spec().prealloc, Prealloc::Off);
}

#[test]
fn one_that_has_ended_does_not_begin_again() {
    let (ram, listener, reports) = guest(background(MEMFD, 16));
    ram.fill_beside_guest(&listener).unwrap();
    let ended = reports.recv_timeout(PATIENCE).unwrap();
    // The end of a start, during which a client had it begin.
    ram.fill_beside_guest(&listener).unwrap();
    assert_eq!(ram.backends()[0].prealloc(), ended);
}

#[test]
fn the_end_of_the_guest_ends_it() {
    let (ram, listener, reports) = guest(background(BackendKind::Ram, 4096));
    ram.fill_beside_guest(&listener).unwrap();
    drop(ram);
    let report = reports.try_recv().unwrap();
    assert_eq!(report.state, PreallocState::Cancelled);
}

#[test]
fn a_page_that_cannot_be_had_is_told() {
    let tmpfs = Mount::new("tmpfs", "size=4M");
    let (ram, listener, reports) = guest(spec(directory(tmpfs.path()), 8));
    ram.fill_beside_guest(&listener).unwrap();
    ram.backends()[0].set_prealloc(true).unwrap();
    let report = reports.recv_timeout(PATIENCE).unwrap();
    let PreallocState::Failed(text) = report.state else {
        panic!("{report:?}");
    };
    assert!(
        text.contains("stopped at 4 MiB; the tmpfs file in") && text.contains("room for"),
        "{text}"
    );
}

#[test]
fn what_contradicts_it_is_refused() {
    let mut unreserved = spec(BackendKind::Ram, 4);
    unreserved.reserve = Some(false);
    let ram = open(unreserved).unwrap();
    let refused = ram.backends()[0].set_prealloc(true).unwrap_err().to_string();
    assert!(refused.contains("prealloc=on with reserve=off"), "{refused}");
    ram.backends()[0].set_prealloc(false).unwrap();
}

#[test]
fn the_rest_takes_as_long_as_it_did_so_far() {
    let report = PreallocReport {
        id: "mem0".to_owned(),
        state: PreallocState::Running,
        size: ByteSize::gib(4),
        populated: ByteSize::mib(768),
        skipped: ByteSize::mib(256),
        elapsed: Duration::from_secs(2),
    };
    assert_eq!(report.rate(), 384 << 20);
    assert_eq!(report.eta(), Some(Duration::from_secs(6)));
}
