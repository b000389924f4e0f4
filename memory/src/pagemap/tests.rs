use std::os::unix::fs::FileExt;

use proptest::{prop_assert_eq, proptest};

use super::*;
use crate::mapping::{Advice, MapRequest, Span};
use crate::size::{ByteSize, PageSize};
use crate::testing::MIB;

fn anonymous(mib: u64) -> Mapping {
    let mapping = Mapping::new(&MapRequest {
        size: ByteSize::mib(mib),
        page: PageSize::BASE,
        guest_start: 0,
        align: None,
        file: None,
        reserve: false,
    });
    let mapping = mapping.unwrap();
    mapping.advise(mapping.whole(), Advice::NoHugePage).unwrap();
    mapping
}

/// Offsets and lengths of what is there.
fn there(mapping: &Mapping) -> Vec<(u64, u64)> {
    let mut runs = Vec::new();
    let pagemap = Pagemap::open().unwrap();
    pagemap
        .scan(mapping, |pages| {
            assert!(!pages.huge);
            let Range { start, end } = pages.range;
            runs.push((start - mapping.address(), end - start));
        })
        .unwrap();
    runs
}

#[test]
fn finds_the_pages_that_were_touched() {
    let mapping = anonymous(64);
    assert_eq!(there(&mapping), []);
    let spans = [(0, 4096), (8192, 3 * 4096), (64 * MIB - 4096, 4096)];
    for (offset, len) in spans {
        mapping.touch(Span { offset, len }, PageSize::BASE).unwrap();
    }
    assert_eq!(there(&mapping), spans);
}

#[test]
fn more_runs_than_one_call_finds() {
    for mib in [4, 8, 32, 64] {
        check_many_runs(mib);
    }
}

fn check_many_runs(mib: u64) {
    let mapping = anonymous(mib);
    let pages = (0..mib * MIB).step_by(3 * 4096);
    for offset in pages.clone() {
        mapping.touch(Span { offset, len: 4096 }, PageSize::BASE).unwrap();
    }
    let found = there(&mapping);
    assert!(
        found
            .iter()
            .eq(&pages.map(|offset| (offset, 4096)).collect::<Vec<_>>())
    );
}

proptest! {
    /// Of pages that were never touched, that were only read, and that were written to, the last are there.
    #[test]
    fn tells_what_was_written_to(stretches in proptest::collection::vec((0..3_u64, 1..40_u64), 1..80)) {
        let (mapping, own) = (anonymous(16), File::open("/proc/self/mem").unwrap());
        let (mut offset, mut written) = (0, Vec::<(u64, u64)>::new());
        for (kind, pages) in stretches {
            let len = pages * 4096;
            let span = Span { offset, len };
            match kind {
                0 => {}
                1 => {
                    let mut bytes = vec![0; len.try_into().unwrap()];
                    own.read_exact_at(&mut bytes, mapping.address() + offset).unwrap();
                }
                _ => mapping.touch(span, PageSize::BASE).unwrap(),
            }
            match written.last_mut().filter(|last| last.0 + last.1 == offset) {
                Some(last) if kind == 2 => last.1 += len,
                _ if kind == 2 => written.push((offset, len)),
                _ => {}
            }
            offset += len;
        }
        prop_assert_eq!(there(&mapping), written);
    }
}
