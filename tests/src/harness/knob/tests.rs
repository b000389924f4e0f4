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
