use std::os::unix::fs::MetadataExt;

use memory::ram::Ram;
use vm_memory::{GuestAddress, GuestMemoryBackend};

use crate::testing::anonymous_ram;

use std::os::unix::fs::FileExt;

use rustix::io::Errno;

use super::*;

const MIB: u64 = 1 << 20;

/// An image of 4 MiB, all of it there.
fn image() -> (RawImage, File) {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    let path = directory.path().join("disk");
    std::fs::write(&path, vec![0xaa; 4 << 20]).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    (RawImage::new(file.try_clone().unwrap(), 4 * MIB), file)
}

fn piece(ram: &Ram, at: u64, len: usize) -> Piece<'_> {
    GuestMemoryBackend::get_slice(ram.memory(), GuestAddress(at), len).unwrap()
}

/// What a file system may take more to know where the pieces of a file are.
const EXTENTS: u64 = 64 << 10;

fn blocks(file: &File) -> u64 {
    file.sync_all().unwrap();
    file.metadata().unwrap().blocks() * 512
}

fn bytes(file: &File, at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, at).unwrap();
    bytes
}

#[test]
fn what_is_written_is_read() {
    let ram = anonymous_ram(8);
    let (mut image, file) = image();
    piece(&ram, 0, 512).copy_from(&[1_u8; 512]);
    piece(&ram, 4096, 1024).copy_from(&[2_u8; 1024]);
    image
        .write(512, &[piece(&ram, 0, 512), piece(&ram, 4096, 1024)])
        .unwrap();
    image.flush().unwrap();
    assert_eq!(bytes(&file, 512, 512), [1; 512]);
    assert_eq!(bytes(&file, 1024, 1024), [2; 1024]);
    image.read(1536, &[piece(&ram, 0, 1024)]).unwrap();
    let mut read = [0_u8; 1024];
    piece(&ram, 0, 1024).copy_to(&mut read);
    assert_eq!(read[..512], [2; 512]);
    assert_eq!(read[512..], [0xaa; 512]);
}

#[test]
fn discarded_space_goes_back_to_the_host() {
    let (mut image, file) = image();
    let before = blocks(&file);
    image.discard(MIB, 2 * MIB).unwrap();
    assert!(
        blocks(&file) + 2 * MIB <= before + EXTENTS,
        "{} of {before}",
        blocks(&file)
    );
    assert_eq!(image.size(), 4 * MIB);
    assert_eq!(file.metadata().unwrap().len(), 4 * MIB);
    assert_eq!(bytes(&file, 0, 4096), [0xaa; 4096]);
}

#[test]
fn zeros_are_zeros_whether_space_goes_or_stays() {
    let (mut image, file) = image();
    let before = blocks(&file);
    image.write_zeroes(512, MIB, false).unwrap();
    assert_eq!(bytes(&file, 512, 1 << 20), vec![0; 1 << 20]);
    assert_eq!(bytes(&file, 512 + MIB, 512), [0xaa; 512]);
    assert!(blocks(&file) + EXTENTS >= before, "{} of {before}", blocks(&file));
    image.write_zeroes(2 * MIB, MIB, true).unwrap();
    assert_eq!(bytes(&file, 2 * MIB, 1 << 20), vec![0; 1 << 20]);
    assert!(
        blocks(&file) + MIB <= before + EXTENTS,
        "{} of {before}",
        blocks(&file)
    );
}

#[test]
fn a_file_system_without_zeros_gets_them_written() {
    // tmpfs makes holes, but no ranges of zeros.
    let file = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let file = File::from(file);
    file.write_all_at(&[0xaa; 200 << 10], 0).unwrap();
    let mut image = RawImage::new(file.try_clone().unwrap(), 200 << 10);
    image.write_zeroes(512, 150 << 10, false).unwrap();
    assert_eq!(bytes(&file, 512, 150 << 10), vec![0; 150 << 10]);
    assert_eq!(bytes(&file, 512 + (150 << 10), 512), [0xaa; 512]);
    assert_eq!(bytes(&file, 0, 512), [0xaa; 512]);
}

#[test]
fn what_the_host_refuses_is_an_error() {
    let ram = anonymous_ram(8);
    let full = File::options().write(true).read(true).open("/dev/full").unwrap();
    let mut image = RawImage::new(full, MIB);
    let error = image.write(0, &[piece(&ram, 0, 512)]).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(Errno::NOSPC.raw_os_error()));
    // Somebody cut the file.
    let (mut image, file) = super::tests::image();
    file.set_len(512).unwrap();
    image.read(1024, &[piece(&ram, 0, 512)]).unwrap_err();
}
