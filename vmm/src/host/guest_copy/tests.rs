use super::super::testing::{SIZE, shaky};
use super::*;

#[test]
fn missing_pages_are_an_error_and_come_back() {
    let (ram, file) = shaky();
    let address = GuestAddress(SIZE - 4096);
    write(&ram, address, &[1, 2, 3]).unwrap();
    let mut found = [0; 3];
    read(&ram, address, &mut found).unwrap();
    assert_eq!(found, [1, 2, 3]);

    file.as_file().set_len(SIZE / 2).unwrap();
    let errno = |result: io::Result<()>| result.unwrap_err().raw_os_error();
    assert_eq!(errno(read(&ram, address, &mut found)), Some(libc::EFAULT));
    assert_eq!(errno(write(&ram, address, &found)), Some(libc::EFAULT));

    file.as_file().set_len(SIZE).unwrap();
    write(&ram, address, &[4]).unwrap();
    read(&ram, address, &mut found).unwrap();
    assert_eq!(found, [4, 0, 0]);
}

#[test]
fn what_is_not_inside_guest_memory_is_refused() {
    let (ram, _file) = shaky();
    for address in [SIZE - 1, SIZE, u64::MAX] {
        assert!(
            write(&ram, GuestAddress(address), &[0; 2]).is_err(),
            "{address:#x}"
        );
    }
}
