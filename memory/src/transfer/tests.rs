use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use super::*;

/// Pieces of `memory` of these lengths, one after the other.
fn pieces<'a>(memory: &'a mut [u8], lengths: &[usize]) -> Vec<Piece<'a>> {
    let whole = VolatileSlice::from(memory);
    let mut at = 0;
    let piece = |length: &usize| {
        at += length;
        whole.subslice(at - length, *length).unwrap()
    };
    lengths.iter().map(piece).collect()
}

fn file(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

#[test]
fn every_byte_has_its_place() {
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let from = file(&bytes);
    let to = tempfile::tempfile().unwrap();
    let mut memory = vec![0; 80_000];
    // More pieces than one call takes, and empty ones at both ends.
    let mut lengths = vec![0, 1, 4095, 0, 8192];
    lengths.extend([97; 600]);
    lengths.push(0);
    let sum: usize = lengths.iter().sum();
    let pieces = pieces(&mut memory, &lengths);
    read_at(from.as_fd(), &pieces, 11).unwrap();
    write_at(to.as_fd(), &pieces, 3).unwrap();
    let mut written = vec![0; sum];
    to.read_exact_at(&mut written, 3).unwrap();
    assert_eq!(memory[..sum], bytes[11..11 + sum]);
    assert_eq!(written, bytes[11..11 + sum]);
    assert!(memory[sum..].iter().all(|byte| *byte == 0));
}

#[test]
fn says_where_it_ends() {
    let mut memory = vec![1; 8];
    let pieces = pieces(&mut memory, &[8]);
    let short = read_at(file(b"four").as_fd(), &pieces, 0).unwrap_err();
    assert_eq!(short.kind(), ErrorKind::UnexpectedEof);
    let read_only = File::open("/dev/null").unwrap();
    let refused = write_at(read_only.as_fd(), &pieces, 0).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(Errno::BADF.raw_os_error()));
    let far = read_at(file(b"").as_fd(), &pieces, u64::MAX).unwrap_err();
    assert_eq!(far.raw_os_error(), Some(Errno::FBIG.raw_os_error()));
    read_at(file(b"").as_fd(), &[], 0).unwrap();
}

#[test]
fn a_packet_is_sent_whole_or_not_at_all() {
    let (from, to) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let mut memory: Vec<u8> = (0..200).collect();
    let pieces = pieces(&mut memory, &[5, 0, 100, 30]);
    send(from.as_fd(), &pieces).unwrap();
    send(from.as_fd(), &pieces[3..]).unwrap();
    let mut packet = [0; 256];
    assert_eq!(to.recv(&mut packet).unwrap(), 135);
    assert!(packet[..135].iter().copied().eq(0..135));
    assert_eq!(to.recv(&mut packet).unwrap(), 30);
    assert!(packet[..30].iter().copied().eq(105..135));

    let many = vec![pieces[0]; MAX_SENT_PIECES + 1];
    assert_eq!(
        send(from.as_fd(), &many).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
    from.set_nonblocking(true).unwrap();
    let full = loop {
        if let Err(error) = send(from.as_fd(), &pieces) {
            break error;
        }
    };
    assert_eq!(full.kind(), ErrorKind::WouldBlock);
}
