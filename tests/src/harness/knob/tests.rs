use super::*;

#[test]
fn a_knob_goes_back_also_when_a_test_fails() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "always [madvise] never\n").unwrap();
    let failed = std::panic::catch_unwind(|| {
        let _knob = Knob::set(file.path(), "always").unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), "always");
        panic!("a failing test");
    });
    assert!(failed.is_err());
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "madvise");
}

#[test]
fn a_kept_knob_goes_back_when_its_setter_is_killed() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "7\n").unwrap();
    let mut kept = Kept::set(file.path(), "8").unwrap();
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "8");
    // All that a killed process does: its descriptors close.
    drop(kept.keeper.stdin.take());
    assert!(kept.keeper.wait().unwrap().success());
    assert_eq!(fs::read_to_string(file.path()).unwrap(), "7");
}
