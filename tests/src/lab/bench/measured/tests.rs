use super::*;

#[test]
fn the_ratio_is_the_median_of_pair_ratios() {
    // The second pair was slowed for both: the ratio of the medians would be 0.9.
    let measured = Measured::pairs("boot.x", "s", "other", &[(1.0, 2.0), (9.0, 18.0), (3.0, 4.0)]).unwrap();
    assert_eq!(measured.ratio, Some(0.5));
    assert_eq!(measured.value, 3.0);
    assert_eq!(measured.against.unwrap().value, 4.0);
    assert_eq!(measured.quartiles, [0.5, 0.625]);
    assert_eq!(measured.samples, 3);
}

#[test]
fn nothing_is_divided_by_zero() {
    let measured = Measured::pairs("a", "s", "other", &[(1.0, 0.0)]).unwrap();
    assert_eq!(measured.ratio, None);
    assert_eq!(Measured::pairs("a", "s", "other", &[]), None);
    assert_eq!(Measured::alone("a", "s", &[]), None);
}

#[test]
fn a_figure_survives_its_json() {
    for measured in [
        Measured::alone("a.b", "MiB", &[1.5, 2.0]).unwrap(),
        Measured::pairs("a.c", "s", "QEMU 7.2", &[(1.0, 4.0)]).unwrap(),
    ] {
        let text = serde_json::to_string(&measured).unwrap();
        assert_eq!(serde_json::from_str::<Measured>(&text).unwrap(), measured);
    }
}
