use proptest::prelude::*;
use vm_memory::{Bytes, GuestAddress};

use super::*;

const MIB: u64 = 1 << 20;

#[test]
fn lies_as_high_as_it_can() {
    assert_eq!(place(1, 16 * MIB, 64 * MIB).unwrap(), 64 * MIB - 4096);
    assert_eq!(place(4096, 16 * MIB, 64 * MIB).unwrap(), 64 * MIB - 4096);
    assert_eq!(place(4097, 16 * MIB, 64 * MIB).unwrap(), 64 * MIB - 8192);
    assert_eq!(place(48 * MIB, 16 * MIB, 64 * MIB).unwrap(), 16 * MIB);
}

#[test]
fn a_limit_inside_a_page_is_rounded_down() {
    assert_eq!(place(4096, 0, 0x7fff_ffff).unwrap(), 0x7fff_e000);
}

#[test]
fn too_large_says_the_numbers() {
    let error = place(49 * MIB, 16 * MIB, 64 * MIB).unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("49 MiB") && text.contains("48 MiB") && text.contains("0x1000000"),
        "{text}"
    );
}

#[test]
fn missing_empty_and_strange_files() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(
        Initrd::open(&dir.path().join("none")),
        Err(InitrdError::Open(_))
    ));
    assert!(matches!(Initrd::open(dir.path()), Err(InitrdError::Open(_))));
    let empty = dir.path().join("empty");
    std::fs::write(&empty, b"").unwrap();
    assert!(matches!(Initrd::open(&empty), Err(InitrdError::Empty)));
}

#[test]
fn bytes_arrive() {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("initrd");
    std::fs::write(&path, b"bytes of an initramfs").unwrap();
    let mut initrd = Initrd::open(&path).unwrap();
    assert_eq!(initrd.len(), 21);
    initrd.load(&memory, 0x8000).unwrap();
    let mut found = [0; 22];
    memory.read_slice(&mut found, GuestAddress(0x8000)).unwrap();
    assert_eq!(&found, b"bytes of an initramfs\0");
}

#[test]
fn a_file_that_shrank_is_an_error() {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("initrd");
    std::fs::write(&path, b"bytes of an initramfs").unwrap();
    let mut initrd = Initrd::open(&path).unwrap();
    std::fs::write(&path, b"bytes").unwrap();
    assert!(matches!(
        initrd.load(&memory, 0x8000),
        Err(InitrdError::Copy { address: 0x8000, .. })
    ));
}

proptest! {
    #[test]
    fn placement_is_aligned_inside_and_highest(len in 1u64..1 << 33, kernel_end in 0u64..1 << 32, top in 0u64..1 << 32) {
        match place(len, kernel_end, top) {
            Ok(address) => {
                prop_assert_eq!(address % 4096, 0);
                prop_assert!(address >= kernel_end);
                prop_assert!(address + len <= top);
                prop_assert!(address + 4096 + len > top - top % 4096);
            }
            Err(_) => {
                let room = (top - top % 4096).saturating_sub(kernel_end.next_multiple_of(4096));
                prop_assert!(len > room);
            }
        }
    }
}
