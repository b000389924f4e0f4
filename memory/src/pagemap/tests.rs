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
        .scan(mapping, |run| {
            runs.push((run.start - mapping.address(), run.end - run.start));
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
