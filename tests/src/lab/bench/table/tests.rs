use super::super::measured::Measured;
use super::*;

#[test]
fn figures_have_three_digits_that_count() {
    let shown = [0.0, 0.0123, 0.5, 1.234, 12.34, 1234.5, -2.0].map(figure);
    assert_eq!(shown, ["0.00", "0.012", "0.500", "1.23", "12.3", "1234", "-2.00"]);
}

#[test]
fn a_missed_budget_stands_out() {
    let missed = Measured::pairs("boot.user-space", "s", "QEMU 7.2", &[(3.0, 2.0)]).unwrap();
    let text = row(&Row::new(missed));
    assert!(text.starts_with("boot.user-space "), "{text}");
    assert!(text.ends_with("ratio <= 0.8   NO"), "{text}");
    let plain = row(&Row::new(Measured::alone("boot.x", "s", &[1.0]).unwrap()));
    assert!(plain.ends_with('1'), "{plain}");
}
