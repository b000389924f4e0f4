use std::fs::File;
use std::os::unix::fs::FileExt;

use super::*;

const START: u64 = 4096;
const LEN: u64 = 1 << 20;

/// A file with holes only.
fn file(place: &str) -> File {
    let file = tempfile::tempfile_in(place).unwrap();
    file.set_len(START + LEN).unwrap();
    file
}

fn footprint() -> Footprint {
    Footprint::new(START, LEN, Tells::Holes)
}

#[test]
fn only_what_was_written_can_be_lost() {
    for place in ["/dev/shm", "/var/tmp"] {
        let (file, mut print) = (file(place), footprint());
        file.write_all_at(b"guest", START + 5 * PIECE).unwrap();
        assert_eq!(print.look(&file).unwrap(), None);
        // Behind the data.
        file.set_len(START + 6 * PIECE).unwrap();
        let cut = print.look(&file).unwrap().unwrap();
        assert!(!cut.lost, "{place}: {cut}");
        assert_eq!(cut.needed.bytes(), START + LEN);
        // It may be written meanwhile where it still is.
        file.write_all_at(b"guest", START + 2 * PIECE).unwrap();
        assert!(!print.look(&file).unwrap().unwrap().lost);
        // Through what was written just now.
        file.set_len(START + 2 * PIECE + 1).unwrap();
        let cut = print.look(&file).unwrap().unwrap();
        assert!(cut.lost, "{place}: {cut}");
    }
}

#[test]
fn a_loss_is_told_until_somebody_accepts_it() {
    let (file, mut print) = (file("/dev/shm"), footprint());
    file.write_all_at(b"guest", START + LEN - 1).unwrap();
    print.look(&file).unwrap();
    file.set_len(0).unwrap();
    assert!(print.look(&file).unwrap().unwrap().lost);
    file.set_len(LEN / 2).unwrap();
    assert!(print.look(&file).unwrap().unwrap().lost);
    print.accept_loss(&file).unwrap();
    assert!(!print.look(&file).unwrap().unwrap().lost);
    file.set_len(START + LEN).unwrap();
    assert_eq!(print.look(&file).unwrap(), None);
    file.write_all_at(b"guest", START + LEN - 1).unwrap();
    print.look(&file).unwrap();
    file.set_len(0).unwrap();
    assert!(print.look(&file).unwrap().unwrap().lost);
}

#[test]
fn what_was_given_back_is_not_lost() {
    let (file, mut print) = (file("/dev/shm"), footprint());
    file.write_all_at(&[1; 3 * 65536], START).unwrap();
    print.look(&file).unwrap();
    print.given_back(0, 3 * PIECE);
    file.set_len(START).unwrap();
    assert!(!print.look(&file).unwrap().unwrap().lost);
    // A part of a piece may have left data in the rest of it.
    print.seen[0] = 1;
    print.given_back(0, PIECE - 1);
    assert!(print.look(&file).unwrap().unwrap().lost);
}

#[test]
fn a_file_that_does_not_know_its_holes_is_counted() {
    let (file, mut print) = (file("/dev/shm"), Footprint::new(START, LEN, Tells::Blocks));
    file.write_all_at(&[1; 8192], START + LEN - 8192).unwrap();
    print.look(&file).unwrap();
    file.set_len(START + LEN - 8192).unwrap();
    assert!(print.look(&file).unwrap().unwrap().lost);
    print.accept_loss(&file).unwrap();
    file.set_len(START).unwrap();
    assert!(!print.look(&file).unwrap().unwrap().lost, "nothing was there");
}

#[test]
fn large_files_have_large_pieces() {
    let print = Footprint::new(0, 1 << 40, Tells::Holes);
    assert_eq!((print.piece, print.seen.len()), (1 << 20, 1 << 14));
    assert_eq!(print.first_unseen((1 << 20) - 1), Some((1 << 20) - 1));
    assert_eq!(print.first_unseen(1 << 20), None);
}

#[test]
fn of_private_memory_everything_behind_the_cut_is_lost() {
    let (file, mut print) = (file("/dev/shm"), Footprint::new(START, LEN, Tells::Nothing));
    assert_eq!(print.look(&file).unwrap(), None);
    file.set_len(START + LEN - 1).unwrap();
    assert!(print.look(&file).unwrap().unwrap().lost);
    print.accept_loss(&file).unwrap();
    assert!(!print.look(&file).unwrap().unwrap().lost);
}

#[test]
fn a_look_is_bounded_and_the_next_goes_on() {
    let len = (A_LOOK as u64 + 3) * PIECE;
    let file = tempfile::tempfile_in("/dev/shm").unwrap();
    file.set_len(len).unwrap();
    for piece in 0..len / PIECE {
        file.write_all_at(b"g", piece * PIECE).unwrap();
    }
    let mut print = Footprint::new(0, len, Tells::Holes);
    print.look(&file).unwrap();
    assert_eq!(print.first_unseen(0), Some(A_LOOK as u64));
    print.look(&file).unwrap();
    assert_eq!((print.first_unseen(0), print.next), (None, 0));
}
