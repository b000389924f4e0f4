use super::*;

#[test]
fn quartiles_of_seven_are_samples() {
    let spread = Spread::of(&[7.0, 1.0, 6.0, 2.0, 5.0, 3.0, 4.0]).unwrap();
    assert_eq!(
        spread,
        Spread {
            low: 2.5,
            median: 4.0,
            high: 5.5
        }
    );
}

#[test]
fn few_samples_have_a_spread_too() {
    assert_eq!(Spread::of(&[]), None);
    let one = Spread::of(&[3.0]).unwrap();
    assert_eq!((one.low, one.median, one.high), (3.0, 3.0, 3.0));
    assert_eq!(Spread::of(&[1.0, 2.0]).unwrap().median, 1.5);
}

#[test]
fn percentiles_lie_between_samples() {
    let samples: Vec<f64> = (0..=100).map(f64::from).collect();
    assert_eq!(quantile(&samples, 0.99), Some(99.0));
    assert_eq!(quantile(&samples, 1.0), Some(100.0));
    assert_eq!(quantile(&samples, 2.0), Some(100.0));
    assert_eq!(quantile(&[0.0, 10.0], 0.99), Some(9.9));
}

#[test]
fn the_limit_itself_is_within() {
    assert_eq!(percent_within(&[1.0, 2.0, 3.0, 4.0], 2.0), 50.0);
    assert_eq!(percent_within(&[], 2.0), 0.0);
}
