use super::*;
use crate::testing::{HUGE, MIB};

fn span(offset: u64, len: u64) -> Span {
    Span { offset, len }
}

/// The blocks of the first `len` bytes that are marked.
fn marked(given: &Given, len: u64) -> Vec<u64> {
    let blocks = (0..len.div_ceil(given.block())).map(|block| block * given.block());
    blocks
        .filter(|offset| given.unless_given(*offset, || ()).is_none())
        .collect()
}

#[test]
fn a_piece_marks_every_block_that_it_touches() {
    let given = Given::new(300 * MIB, PageSize::BASE);
    given.mark(&[span(HUGE - 4096, 8192), span(299 * MIB, MIB)], Reason::Inflated);
    given.mark(&[span(8 * MIB, HUGE), span(1, 4095)], Reason::Reported);
    assert_eq!(marked(&given, 300 * MIB), [0, HUGE, 8 * MIB, 298 * MIB]);
    given.deflated();
    assert_eq!(marked(&given, 300 * MIB), [8 * MIB]);
}

#[test]
fn parts_of_huge_pages_do_not_go_back() {
    let given = Given::new(8 * MIB, PageSize::HUGE_2M);
    given.mark(&[span(4096, HUGE), span(6 * MIB, HUGE)], Reason::Reported);
    assert_eq!(marked(&given, 8 * MIB), [6 * MIB]);
    let given = Given::new(2048 * MIB, PageSize::HUGE_1G);
    given.mark(&[span(HUGE, 1024 * MIB)], Reason::Inflated);
    assert_eq!(marked(&given, 2048 * MIB), [] as [u64; 0]);
    given.mark(&[span(HUGE, 2046 * MIB)], Reason::Inflated);
    assert_eq!(marked(&given, 2048 * MIB), [1024 * MIB]);
}

#[test]
fn what_is_outside_is_nobodys() {
    let given = Given::new(4 * MIB, PageSize::BASE);
    given.mark(
        &[span(1 << 40, HUGE), span(u64::MAX - 4096, 4096)],
        Reason::Inflated,
    );
    assert_eq!(marked(&given, 4 * MIB), [] as [u64; 0]);
}
