use std::cell::RefCell;

use proptest::prelude::*;

use super::*;

fn span(offset: u64, len: u64) -> Span {
    Span { offset, len }
}

fn pages(count: u64) -> Vec<Span> {
    (0..count).map(|index| span(index * 8192, 4096)).collect()
}

fn einval() -> io::Error {
    io::Error::from_raw_os_error(libc::EINVAL)
}

#[test]
fn touching_and_overlapping_pieces_become_one() {
    let mut spans = vec![
        span(10, 5),
        span(0, 4),
        span(4, 2),
        span(12, 20),
        span(13, 1),
        span(40, 1),
    ];
    merge(&mut spans);
    assert_eq!(spans, [span(0, 6), span(10, 22), span(40, 1)]);
}

#[test]
fn a_call_has_at_most_1024_pieces_and_2_gib() {
    let calls = RefCell::new(Vec::new());
    let kernel = |pieces: &[Span]| {
        let bytes: u64 = pieces.iter().map(|piece| piece.len).sum();
        calls.borrow_mut().push((pieces.len(), bytes));
        Ok(bytes)
    };
    let mut many = pages(2500);
    assert_eq!(in_batches(&mut many, kernel, |_| unreachable!()), 2500 * 4096);
    let mut large: Vec<Span> = (0..6).map(|index| span(index << 31, 1 << 29)).collect();
    assert_eq!(in_batches(&mut large, kernel, |_| unreachable!()), 6 << 29);
    // What is longer than a call may be goes by a call that has no limit.
    let mut long = [span(0, 4096), span(1 << 40, 5 << 30), span(1 << 50, 4096)];
    let alone = RefCell::new(Vec::new());
    let one = |piece: Span| {
        alone.borrow_mut().push(piece);
        piece.len
    };
    assert_eq!(in_batches(&mut long, kernel, one), (5 << 30) + 8192);
    assert_eq!(alone.into_inner(), long);
    let calls = calls.into_inner();
    assert_eq!(
        calls[..3],
        [(1024, 1024 * 4096), (1024, 1024 * 4096), (452, 452 * 4096)]
    );
    assert_eq!(calls[3..], [(3, 3 << 29), (3, 3 << 29)]);
    assert!(
        calls
            .iter()
            .all(|(count, bytes)| *count <= sys::MAX_RANGES && *bytes <= MAX_BYTES),
        "{calls:?}"
    );
}

#[test]
fn a_short_call_is_resumed_where_it_stopped() {
    let seen = RefCell::new(Vec::new());
    // Takes one and a half pieces at a time.
    let kernel = |pieces: &[Span]| {
        seen.borrow_mut().push(pieces[0]);
        Ok(pieces.iter().map(|piece| piece.len).sum::<u64>().min(6144))
    };
    assert_eq!(in_batches(&mut pages(3), kernel, |_| unreachable!()), 3 * 4096);
    assert_eq!(seen.into_inner(), [span(0, 4096), span(8192 + 2048, 2048)]);
}

#[test]
fn a_piece_that_is_refused_does_not_stop_the_others() {
    let kernel = |pieces: &[Span]| {
        let good = pieces.iter().take_while(|piece| piece.offset != 8192);
        let bytes: u64 = good.map(|piece| piece.len).sum();
        if bytes == 0 { Err(einval()) } else { Ok(bytes) }
    };
    assert_eq!(in_batches(&mut pages(5), kernel, |_| 0), 4 * 4096);
}

#[test]
fn a_kernel_that_refuses_everything_gets_the_pieces_one_by_one() {
    let alone = RefCell::new(0);
    let one = |piece: Span| {
        *alone.borrow_mut() += 1;
        piece.len
    };
    assert_eq!(in_batches(&mut pages(1500), |_| Err(einval()), one), 1500 * 4096);
    assert_eq!(in_batches(&mut pages(7), |_| Ok(0), one), 7 * 4096);
    assert_eq!(alone.into_inner(), 1507);
}

#[test]
fn the_probe_finds_what_this_kernel_takes() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release
        .split(['.', '-'])
        .map_while(|number| number.parse::<u32>().ok());
    let version = (numbers.next().unwrap(), numbers.next().unwrap());
    let batch = Batch::default();
    for advice in [Advice::DontNeed, Advice::Remove] {
        // Linux 6.13 began to take advice that frees from the process itself.
        assert_eq!(
            batch.pidfd(advice).is_some(),
            version >= (6, 13),
            "{advice:?} on {release}"
        );
    }
    assert!(batch.pidfd(Advice::PopulateWrite).is_none());
}

/// Older kernels have no call for many pieces: what goes is the same.
#[test]
fn without_the_call_every_piece_goes_as_well() {
    let memfd = rustix::fs::memfd_create(c"ballast-test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&memfd, 4 << 20).unwrap();
    for advice in [Advice::DontNeed, Advice::Remove] {
        let request = MapRequest {
            size: ByteSize::mib(4),
            page: PageSize::BASE,
            align: None,
            guest_start: 0,
            file: (advice == Advice::Remove).then(|| MapFile::own(memfd.as_fd())),
            reserve: false,
        };
        let mapping = Mapping::new(&request).unwrap();
        mapping.advise(mapping.whole(), Advice::PopulateWrite).unwrap();
        let held = || {
            if advice == Advice::Remove {
                held_by(&memfd).unwrap()
            } else {
                crate::proc::smaps(&mapping).unwrap().size("Rss")
            }
        };
        assert_eq!(held(), ByteSize::mib(4));
        let batch = mapping.batch();
        batch.dont_need.set(None).unwrap();
        batch.remove.set(None).unwrap();
        let released = whole_pages(&mapping, &mut pages(512), PageSize::BASE, Way::Advice(advice));
        assert_eq!((released.discarded, released.failed), (2 << 20, 0));
        assert_eq!(held(), ByteSize::mib(2), "{advice:?}");
    }
}

proptest! {
    /// Whatever the kernel takes of each call, every byte is given once.
    #[test]
    fn every_byte_is_given_once(
        lens in prop::collection::vec(1_u64..9, 1..50),
        takes in prop::collection::vec(0_u64..40, 1..20),
    ) {
        let mut offset = 0;
        let mut pieces: Vec<Span> = lens.iter().map(|len| {
            offset += 100;
            span(offset, *len)
        }).collect();
        let before = pieces.clone();
        let given = RefCell::new(Vec::new());
        let mut turn = takes.iter().cycle();
        let kernel = |pieces: &[Span]| {
            let mut left = *turn.next().unwrap();
            let mut taken = 0;
            for piece in pieces {
                let len = piece.len.min(left);
                given.borrow_mut().push(span(piece.offset, len));
                left -= len;
                taken += len;
            }
            if taken == 0 { Err(einval()) } else { Ok(taken) }
        };
        let one = |piece: Span| {
            given.borrow_mut().push(piece);
            piece.len
        };
        let sum: u64 = lens.iter().sum();
        prop_assert_eq!(in_batches(&mut pieces, kernel, one), sum);
        let mut given = given.into_inner();
        given.retain(|piece| piece.len > 0);
        prop_assert_eq!(given.iter().map(|piece| piece.len).sum::<u64>(), sum, "given twice");
        merge(&mut given);
        prop_assert_eq!(given, before);
    }
}
