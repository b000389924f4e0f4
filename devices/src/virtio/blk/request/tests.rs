use vm_memory::VolatileSlice;

use super::*;

fn split<'a>(memory: &'a mut [u8], lengths: &[usize]) -> Vec<Piece<'a>> {
    let whole = VolatileSlice::from(memory);
    let mut at = 0;
    let piece = |length: &usize| {
        at += length;
        whole.subslice(at - length, *length).unwrap()
    };
    lengths.iter().map(piece).collect()
}

fn lengths(pieces: &[Piece<'_>]) -> Vec<usize> {
    pieces.iter().map(VolatileSlice::len).collect()
}

#[test]
fn cuts_wherever_pieces_end() {
    let mut memory: Vec<u8> = (0..32).collect();
    for (given, left) in [
        (vec![4, 28], vec![28]),
        (vec![1, 0, 2, 5], vec![4]),
        (vec![2, 2], vec![]),
        (vec![32], vec![28]),
    ] {
        let mut pieces = split(&mut memory, &given);
        assert_eq!(take(&mut pieces), Ok([0, 1, 2, 3]), "{given:?}");
        assert_eq!(lengths(&pieces), left, "{given:?}");
    }
    let mut short = split(&mut memory, &[3, 0]);
    assert_eq!(take::<4>(&mut short), Err(Broken));
    assert_eq!(take::<4>(&mut Vec::new()), Err(Broken));
}

#[test]
fn the_status_is_the_last_byte() {
    let mut memory: Vec<u8> = (0..32).collect();
    for (given, left) in [(vec![31, 1], vec![31]), (vec![16, 16, 0], vec![16, 15])] {
        let mut pieces = split(&mut memory, &given);
        let byte = last_byte(&mut pieces).unwrap();
        assert_eq!((byte.len(), byte.read_obj::<u8>(0).unwrap()), (1, 31));
        assert_eq!(lengths(&pieces), left);
    }
    assert!(last_byte(&mut Vec::new()).is_err());
    assert!(last_byte(&mut split(&mut memory, &[0, 0])).is_err());
}

#[test]
fn ranges_lie_inside_the_disk() {
    let size = 8 * SECTOR;
    let range = |sector, len| Range::of_sectors(sector, len, size).map(|range| (range.offset, range.len));
    assert_eq!(range(0, size), Some((0, size)));
    assert_eq!(range(7, SECTOR), Some((7 * SECTOR, SECTOR)));
    assert_eq!(range(8, 0), Some((size, 0)));
    for (sector, len) in [
        (8, SECTOR),
        (0, size + SECTOR),
        (0, 100),
        (u64::MAX, SECTOR),
        (u64::MAX / SECTOR, SECTOR),
        (1, u64::MAX - 100),
    ] {
        assert_eq!(range(sector, len), None, "{sector} {len}");
    }
}
