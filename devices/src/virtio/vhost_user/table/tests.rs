use std::fs::File;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;

use memory::backend::{BackendKind, BackendSpec};
use memory::layout::{HOLE_END, HOLE_START};
use memory::size::ByteSize;
use vm_memory::Bytes;

use super::*;
use crate::testing::anonymous_ram;

/// The table of a guest with these backends.
fn table(backends: &[(BackendKind, ByteSize)]) -> Result<Table, VhostUserError> {
    let specs = (0..).zip(backends).map(|(number, (kind, size))| {
        let mut spec = BackendSpec::new(format!("m{number}"), kind.clone(), *size);
        spec.guest_node = number;
        spec
    });
    Table::new(Ram::open(specs.collect(), &()).unwrap())
}

/// What a daemon finds in the file of `region`, 8 bytes from `offset` in the region.
fn in_file(table: &Table, region: usize, offset: u64) -> u64 {
    let info = table.regions()[region];
    let backend = table.ram().regions()[region].backend();
    let (file, _): (BorrowedFd<'_>, u64) = table.ram().backends()[backend].shared_file().unwrap();
    assert_eq!(info.mmap_handle, file.as_raw_fd());
    let file = File::from(file.try_clone_to_owned().unwrap());
    let mut bytes = [0; 8];
    file.read_exact_at(&mut bytes, info.mmap_offset + offset).unwrap();
    u64::from_le_bytes(bytes)
}

#[test]
fn names_the_backend_that_is_not_shared() {
    let error = Table::new(anonymous_ram(16)).unwrap_err().to_string();
    assert!(error.contains("'ram'") && error.contains("share=on"), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let named = BackendKind::file(directory.path().join("ram"));
    let sizes = ByteSize::mib(16);
    let error = table(&[(BackendKind::memfd(None), sizes), (named, sizes)]).unwrap_err();
    assert!(matches!(error, VhostUserError::NotShared { backend } if backend == "m1"));
}

#[test]
fn has_every_node_and_both_sides_of_the_hole() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let small = ByteSize::mib(3);
    let large = ByteSize::from_bytes(HOLE_START);
    let table = table(&[
        (BackendKind::file(directory.path()), small),
        (BackendKind::memfd(None), large),
        (BackendKind::memfd(None), small),
    ])
    .unwrap();
    let regions = table.regions();
    let places: Vec<_> = (regions.iter())
        .map(|region| (region.guest_phys_addr, region.memory_size))
        .collect();
    let split = HOLE_START - small.bytes();
    assert_eq!(
        places,
        [
            (0, small.bytes()),
            (small.bytes(), split),
            (HOLE_END, small.bytes()),
            (HOLE_END + small.bytes(), small.bytes()),
        ]
    );
    for (number, region) in regions.iter().enumerate() {
        let at = region.guest_phys_addr + region.memory_size - 8;
        let value = 0x1234_0000 + number as u64;
        table.ram().memory().write_obj(value, GuestAddress(at)).unwrap();
        assert_eq!(in_file(&table, number, region.memory_size - 8), value);
        assert_eq!(
            table.host_address(at, 8).unwrap(),
            region.userspace_addr + region.memory_size - 8
        );
    }
    // The second piece of a file is behind the first.
    assert_eq!(regions[2].mmap_offset - regions[1].mmap_offset, split);
    table.host_address(HOLE_START, 1).unwrap_err();
    // The next byte is RAM, too, but a daemon has it elsewhere.
    for region in &regions {
        let at = region.guest_phys_addr + region.memory_size - 8;
        table.host_address(at, 9).unwrap_err();
    }
}
