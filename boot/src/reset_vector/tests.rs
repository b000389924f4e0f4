use super::*;

#[test]
fn lies_where_a_processor_starts_and_fits() {
    assert_eq!(RESET_VECTOR, 0xf0000 + 0xfff0);
    assert!(code().len() <= 16);
}

#[test]
fn writes_the_reset_register() {
    let code = code();
    assert_eq!(code[0], 0xba);
    assert_eq!(u16::from_le_bytes([code[1], code[2]]), RESET);
    assert_eq!(code[3..6], [0xb0, RESET_VALUE, 0xee]);
    // The jump goes back over itself and the one byte before it.
    assert_eq!(code[6..], [0xf4, 0xeb, (-3i8).to_le_bytes()[0]]);
}
