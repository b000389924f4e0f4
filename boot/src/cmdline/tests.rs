use super::*;

#[test]
fn takes_exactly_what_the_kernel_reads() {
    assert_eq!(check(&"a".repeat(2047), 2047), Ok(()));
    assert_eq!(check("", 0), Ok(()));
    assert_eq!(
        check(&"a".repeat(2048), 2047).map_err(|error| error.to_string()),
        Err("it has 2048 bytes, this kernel takes at most 2047".into())
    );
}

#[test]
fn room_in_guest_memory_is_a_limit_too() {
    let room = usize::try_from(CMDLINE_SIZE).unwrap();
    assert_eq!(check(&"a".repeat(room - 1), u64::MAX), Ok(()));
    assert!(check(&"a".repeat(room), u64::MAX).is_err());
}

#[test]
fn characters_that_end_the_line_are_refused() {
    for (text, offset) in [("a\0b", 1), ("ab\n", 2), ("\rx", 0)] {
        let found = check(text, 100);
        assert!(
            matches!(found, Err(CmdlineError::Character { offset: at, .. }) if at == offset),
            "{text:?}"
        );
    }
    assert_eq!(check("console=ttyS0 name=\"ä ö\"\tx", 100), Ok(()));
}

#[test]
fn ends_with_nul() {
    assert_eq!(with_nul("a b"), b"a b\0");
}
