//! Random balloon traffic over real backends. Every live piece carries a canary; a piece that the model says is live must
//! keep it, and what the model says is released must be gone from the host.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use vm_memory::{Bytes, GuestAddress};

use crate::backend::BackendKind;
use crate::ram::Ram;
use crate::range::{GuestRange, Pfn, merge_pfns};
use crate::testing::{HUGE_MEMFD, HugePages, MEMFD, open, resident, spec};

const MIB: u64 = 8;
const PIECES: u32 = 2048;
/// More than there is.
const ALL: GuestRange = GuestRange::new(GuestAddress(0), u64::MAX);

#[derive(Clone, Debug)]
enum Step {
    /// The guest balloons these pieces.
    Inflate(Vec<u32>),
    /// The guest takes these back and writes to them.
    Deflate(Vec<u32>),
    /// The guest reports a free range: it may be released, and is used again afterwards.
    Report(u32, u32),
    /// The device is reset: the balloon is empty.
    Clear,
}

fn pieces() -> impl Strategy<Value = Vec<u32>> {
    let scattered = prop::collection::vec(0..PIECES + 10, 1..40);
    let run = (0..PIECES, 1_u32..700).prop_map(|(start, count)| (start..start + count).collect());
    prop_oneof![scattered, run]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => pieces().prop_map(Step::Inflate),
        4 => pieces().prop_map(Step::Deflate),
        2 => (0..PIECES, 1..PIECES).prop_map(|(start, count)| Step::Report(start, count)),
        1 => Just(Step::Clear),
    ]
}

fn ranges(pieces: &[u32]) -> Vec<GuestRange> {
    let mut pfns = pieces.iter().map(|piece| Pfn(*piece)).collect();
    let mut ranges = Vec::new();
    merge_pfns(&mut pfns, &mut ranges);
    ranges
}

fn canary(piece: u32) -> u64 {
    0xC0DE_0000_0000_0000 | u64::from(piece)
}

/// The guest uses its piece: the canary is there from now on.
fn touch(ram: &Ram, piece: u32) {
    if piece < PIECES {
        ram.memory()
            .write_obj(canary(piece), Pfn(piece).address())
            .unwrap();
    }
}

fn play(kind: BackendKind, steps: &[Step]) -> Result<(), TestCaseError> {
    let ram = open(spec(kind, MIB)).unwrap();
    let page = u32::try_from(ram.backends()[0].page_size().bytes() / 4096).unwrap();
    let mut partial = ram.partial();
    // Whether the guest relies on what is in the piece.
    let mut live = vec![true; PIECES as usize];
    (0..PIECES).for_each(|piece| touch(&ram, piece));
    for step in steps {
        match step {
            Step::Inflate(pieces) => {
                for piece in pieces.iter().filter(|piece| **piece < PIECES) {
                    live[*piece as usize] = false;
                }
                let mut complete = Vec::new();
                for range in ranges(pieces) {
                    partial.insert(range, &mut complete);
                }
                let released = ram.release(&complete);
                prop_assert_eq!((released.failed, released.refused), (0, 0));
                // Released means gone.
                for range in &complete {
                    let mut word = 0_u64;
                    if range.start.0 < MIB << 20 {
                        word = ram.memory().read_obj(range.start).unwrap();
                    }
                    prop_assert_eq!(word, 0, "{}", range);
                }
            }
            Step::Deflate(pieces) => {
                for range in ranges(pieces) {
                    partial.remove(range);
                }
                for piece in pieces.iter().filter(|piece| **piece < PIECES) {
                    live[*piece as usize] = true;
                    touch(&ram, *piece);
                }
            }
            Step::Report(start, count) => {
                // Only what is free in the guest is reported: live pieces of which it gives up the contents.
                let end = (start + count).min(PIECES);
                if (*start..end).all(|piece| live[piece as usize]) {
                    let range = GuestRange::between(u64::from(*start) * 4096, u64::from(end) * 4096);
                    let before = resident(&ram);
                    let released = ram.release(&[range]);
                    prop_assert_eq!(before - resident(&ram), released.discarded);
                    (*start..end).for_each(|piece| touch(&ram, piece));
                }
            }
            Step::Clear => {
                partial.clear();
                live.fill(true);
                (0..PIECES).for_each(|piece| touch(&ram, piece));
            }
        }
        for piece in (0..PIECES).filter(|piece| live[*piece as usize]) {
            let found: u64 = ram.memory().read_obj(Pfn(piece).address()).unwrap();
            prop_assert_eq!(
                found,
                canary(piece),
                "piece {} of a page of {} pieces",
                piece,
                page
            );
        }
        let waiting = live
            .chunks(page as usize)
            .map(|page| page.iter().filter(|live| !**live).count());
        let waiting: usize = waiting.filter(|count| *count < page as usize).sum();
        let expected = if page == 1 { 0 } else { waiting as u64 * 4096 };
        prop_assert_eq!(partial.bytes(ALL), expected);
    }
    Ok(())
}

fn run(kind: &BackendKind) {
    let mut runner = TestRunner::new(Config {
        failure_persistence: None,
        ..Config::with_cases(48)
    });
    let steps = prop::collection::vec(step(), 1..25);
    runner.run(&steps, |steps| play(kind.clone(), &steps)).unwrap();
}

#[test]
fn live_pages_survive_on_anonymous_memory() {
    run(&BackendKind::Ram);
}

#[test]
fn live_pages_survive_on_memfd() {
    run(&MEMFD);
}

#[test]
fn live_pages_survive_on_huge_pages() {
    let _pool = HugePages::with_free(4);
    run(&HUGE_MEMFD);
}

#[test]
fn a_guest_address_beyond_ram_is_no_piece() {
    let ram = open(spec(BackendKind::Ram, MIB)).unwrap();
    let mut complete = Vec::new();
    ram.partial()
        .insert(GuestRange::new(GuestAddress(1 << 44), 4096), &mut complete);
    assert_eq!(ram.release(&complete).outside, 4096);
}
