use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::backend::BackendKind;
use crate::mapping::Advice;
use crate::ram::{PreallocReport, Ram};
use crate::size::ByteSize;
use crate::testing::{HUGE_MEMFD, HugePages, MEMFD, MIB, Mount, directory, spec};

fn wanted(id: &str, kind: BackendKind, mib: u64) -> BackendSpec {
    let mut spec = spec(kind, mib);
    (spec.id, spec.prealloc) = (id.to_owned(), Prealloc::On);
    spec
}

fn told() -> (PreallocListener, mpsc::Receiver<PreallocReport>) {
    let (sender, reports) = mpsc::channel();
    (Arc::new(move |report| sender.send(report).unwrap()), reports)
}

/// Bytes that the host holds for all backends.
fn held(ram: &Ram) -> u64 {
    let held = |backend: &OpenBackend| backend.resident().unwrap().bytes();
    ram.backends().iter().map(held).sum()
}

fn states(ram: &Ram) -> Vec<PreallocState> {
    ram.backends()
        .iter()
        .map(|backend| backend.prealloc().state)
        .collect()
}

#[test]
fn mapped_memory_is_empty_until_it_is_populated() {
    let _pool = HugePages::with_free(8);
    let specs = vec![
        wanted("a", BackendKind::Ram, 16),
        wanted("b", HUGE_MEMFD, 16),
        spec(MEMFD, 16),
    ];
    let ram = Ram::map(specs, &()).unwrap();
    assert_eq!(held(&ram), 0);
    let (listener, reports) = told();
    let population = Population::new(ram.backends(), Some(&listener));
    assert!(!population.is_empty());
    let (running, none) = (PreallocState::Running, PreallocState::None);
    assert_eq!(states(&ram), [running.clone(), running, none.clone()]);
    assert!(!ram.backends()[0].effective().prealloc);

    population.run(&()).unwrap();
    assert_eq!(held(&ram), 32 * MIB);
    assert_eq!(states(&ram), [PreallocState::Done, PreallocState::Done, none]);
    let prealloc = |backend: &OpenBackend| backend.effective().prealloc;
    let effective: Vec<_> = ram.backends().iter().map(prealloc).collect();
    assert_eq!(effective, [true, true, false]);
    let mut heard: Vec<_> = reports.try_iter().collect();
    heard.sort_by(|one, other| one.id.cmp(&other.id));
    let expected: Vec<_> = ram.backends()[..2].iter().map(OpenBackend::prealloc).collect();
    assert_eq!(heard, expected);
    assert_eq!(heard[0].populated, ByteSize::mib(16));
    // Its end changes nothing.
    drop(population);
    assert_eq!(states(&ram)[0], PreallocState::Done);
}

#[test]
fn others_see_how_far_it_is_and_stop_a_part_of_it() {
    let specs = vec![wanted("long", BackendKind::Ram, 4096), wanted("short", MEMFD, 32)];
    let ram = Ram::map(specs, &()).unwrap();
    let population = Population::new(ram.backends(), None);
    thread::scope(|scope| {
        let thread = scope.spawn(|| population.run(&()));
        let long = &ram.backends()[0];
        let deadline = Instant::now() + Duration::from_secs(60);
        while long.prealloc().populated == ByteSize::ZERO {
            assert!(Instant::now() < deadline, "{:?}", long.prealloc());
            thread::sleep(Duration::from_micros(100));
        }
        assert!(long.prealloc().rate() > 0 && long.prealloc().eta().is_some());
        // The short one does not wait for it.
        while states(&ram)[1] == PreallocState::Running {
            assert!(Instant::now() < deadline, "{:?}", states(&ram));
            thread::sleep(Duration::from_micros(100));
        }
        assert_eq!(states(&ram), [PreallocState::Running, PreallocState::Done]);
        long.fill().unwrap();
        assert!(long.cancel_fill());
        thread.join().unwrap().unwrap();
    });
    assert_eq!(states(&ram), [PreallocState::Cancelled, PreallocState::Done]);
    let report = ram.backends()[0].prealloc();
    assert!(report.populated < report.size, "{report:?}");
    assert_eq!(held(&ram), report.populated.bytes() + 32 * MIB);
    assert!(!ram.backends()[0].cancel_fill());
    // A client has it begin again: that is not for the population to end.
    ram.backends()[0].fill().unwrap();
    drop(population);
    assert_eq!(states(&ram)[0], PreallocState::Running);
    assert!(ram.backends()[0].cancel_fill());
}

#[test]
fn one_that_fails_says_why_and_leaves_no_file() {
    let tmpfs = Mount::new("tmpfs", "size=64M");
    let path = tmpfs.path().join("ram");
    let mut named = wanted("named", directory(&path), 8);
    named.share = Some(true);
    let other = wanted("other", directory(tmpfs.path()), 40);
    let ram = Ram::map(vec![named, other], &()).unwrap();
    assert!(path.exists());
    // Somebody else takes the room that was there.
    std::fs::write(tmpfs.path().join("full"), vec![1; 48 << 20]).unwrap();
    let (listener, reports) = told();
    let population = Population::new(ram.backends(), Some(&listener));
    let error = population.run(&()).unwrap_err().to_string();
    assert!(
        error.contains("cannot preallocate") && error.contains("room for"),
        "{error}"
    );
    // The small one may be through before the room is gone.
    let is_through = |report: &PreallocReport| report.id == "named" && report.state == PreallocState::Done;
    let failed: Vec<_> = reports.try_iter().filter(|report| !is_through(report)).collect();
    assert!(
        matches!(&failed[..], [PreallocReport { state: PreallocState::Failed(text), .. }] if text.starts_with(&error)),
        "{failed:?}"
    );
    drop((population, ram));
    assert!(!path.exists(), "a start that failed left its file");
}

#[test]
fn without_anything_to_fill_it_is_empty() {
    let ram = Ram::map(vec![spec(BackendKind::Ram, 4)], &()).unwrap();
    let population = Population::new(ram.backends(), None);
    assert!(population.is_empty());
    population.run(&()).unwrap();
    assert_eq!(states(&ram), [PreallocState::None]);
}

#[test]
fn a_start_that_is_aborted_says_how_far_it_was() {
    let specs = ["a", "b"].map(|id| wanted(id, BackendKind::Ram, 64));
    let ram = Ram::map(specs.to_vec(), &()).unwrap();
    let population = Population::new(ram.backends(), None);
    population.abort();
    let error = population.run(&()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the preallocation was cancelled when 0 bytes of 128 MiB were there"
    );
    drop(population);
    assert_eq!(states(&ram), [PreallocState::Cancelled, PreallocState::Cancelled]);
    assert_eq!(held(&ram), 0);
}

#[test]
fn what_a_client_changes_meanwhile_does_not_end_the_start() {
    let mut merged = wanted("a", BackendKind::Ram, 4);
    merged.merge = MergeRequest::On;
    let ram = Ram::map(vec![merged], &()).unwrap();
    let population = Population::new(ram.backends(), None);
    // The first half of `merge=off`: the kernel knows, and the specification does not yet.
    let opened = &ram.backends()[0].opened;
    let mapping = &opened.mapping;
    mapping.advise(mapping.whole(), Advice::Unmergeable).unwrap();
    population.run(&()).unwrap();
    assert_eq!(states(&ram), [PreallocState::Done]);
}

#[test]
fn one_that_never_runs_was_cancelled() {
    let ram = Ram::map(vec![wanted("a", BackendKind::Ram, 4)], &()).unwrap();
    drop(Population::new(ram.backends(), None));
    assert_eq!(states(&ram), [PreallocState::Cancelled]);
}
