use super::*;

#[test]
fn versions_compare_as_numbers() {
    assert!(numbers("6.12.9+deb12") < numbers("6.12.10+deb12"));
    assert!(numbers("6.8.0-100") > numbers("6.8.0-9"));
}
