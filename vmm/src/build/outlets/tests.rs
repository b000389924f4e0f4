use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::*;

/// Long enough to see that somebody waits; and for machines that are busy.
const MOMENT: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(20);

/// A pipe that takes nothing more, and how much is in it.
fn full() -> (File, OwnedFd, usize) {
    // Without O_NONBLOCK, as standard output comes.
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let size = fcntl_setpipe_size(&writer, 4096).unwrap();
    assert_eq!(rustix::io::write(&writer, &vec![b'.'; size]), Ok(size));
    (reader.into(), writer, size)
}

/// What such a pipe gets after what was in it, as an outlet of this kind.
fn awaited_pipe(hurry: &Hurry) -> (File, Awaited<OwnedFd>, usize) {
    let (reader, writer, size) = full();
    let awaited = Awaited {
        to: Polled(writer),
        hurry: hurry.clone(),
        kept: Vec::new(),
    };
    (reader, awaited, size)
}

/// Writes byte by byte, as a guest does; the outlet comes back when all is taken.
fn print(mut to: Awaited<OwnedFd>, text: &'static [u8]) -> Receiver<Awaited<OwnedFd>> {
    let (done, taken) = mpsc::channel();
    thread::spawn(move || {
        for byte in text {
            to.write_all(&[*byte]).unwrap();
        }
        done.send(to)
    });
    taken
}

fn read(reader: &mut File, skipped: usize) -> Vec<u8> {
    let mut text = Vec::new();
    reader.read_to_end(&mut text).unwrap();
    text.split_off(skipped)
}

#[test]
fn a_guest_whose_output_nobody_reads_waits() {
    let (mut reader, to, size) = awaited_pipe(&Hurry::default());
    let taken = print(to, b"hello");
    assert!(taken.recv_timeout(MOMENT).is_err(), "it did not wait");
    let reading = thread::spawn(move || read(&mut reader, size));
    drop(taken.recv_timeout(PATIENCE).unwrap());
    assert_eq!(reading.join().unwrap(), b"hello");
}

#[test]
fn a_vcpu_that_is_wanted_leaves_and_nothing_is_lost() {
    let hurry = Hurry::default();
    let (mut reader, to, size) = awaited_pipe(&hurry);
    let taken = print(to, b"hel");
    assert!(taken.recv_timeout(MOMENT).is_err(), "it did not wait");
    hurry.set(true);
    let to = taken.recv_timeout(PATIENCE).expect("the vCPU leaves");
    assert_eq!(to.kept, b"hel");

    // It goes on, and waits for what was kept, as for the next byte.
    hurry.set(false);
    let taken = print(to, b"lo");
    assert!(taken.recv_timeout(MOMENT).is_err(), "it did not wait");
    hurry.set(true);
    let mut to = taken.recv_timeout(PATIENCE).expect("the vCPU leaves");
    let reading = thread::spawn(move || read(&mut reader, size));
    hurry.set(false);
    to.flush().unwrap();
    drop(to);
    assert_eq!(reading.join().unwrap(), b"hello");
}

#[test]
fn where_there_is_room_no_hurry_is_too_great() {
    let hurry = Hurry::default();
    let (mut reader, mut to, size) = awaited_pipe(&hurry);
    rustix::io::read(&reader, &mut vec![0; size]).unwrap();
    hurry.set(true);
    to.write_all(b"bye").unwrap();
    assert_eq!(to.kept, b"");
    drop(to);
    assert_eq!(read(&mut reader, 0), b"bye");
}

#[test]
fn what_is_kept_is_bounded() {
    let hurry = Hurry::default();
    let (_reader, mut to, _) = awaited_pipe(&hurry);
    hurry.set(true);
    to.write_all(&vec![b'x'; MOST_KEPT]).unwrap();
    assert_eq!(to.write(b"y").unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(to.kept.len(), MOST_KEPT);
}

#[test]
fn without_a_reader_nothing_waits() {
    let (reader, mut to, _) = awaited_pipe(&Hurry::default());
    drop(reader);
    assert_eq!(to.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    assert_eq!(to.kept, b"");
}

#[test]
fn a_console_is_told_when_nothing_is_taken() {
    let (reader, writer, size) = full();
    let mut to = Polled(writer);
    assert_eq!(to.write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(rustix::io::read(&reader, &mut vec![0; size]), Ok(size));
    assert_eq!(to.write(&[b'x'; 2 * PIECE]).unwrap(), PIECE);
}

#[test]
fn a_file_is_not_asked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let hurry = Hurry::default();
    let mut to = serial(&SerialSpec::File(path.clone()), &hurry).unwrap();
    to.write_all(b"hello").unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"hello");
    assert!(matches!(
        serial(&SerialSpec::File(directory.path().to_owned()), &hurry),
        Err(Error::OutputFile { .. })
    ));
}
