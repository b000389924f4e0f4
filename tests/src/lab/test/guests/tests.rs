use std::time::Duration;

use super::*;

#[test]
fn what_failed_and_what_was_not_reached_remains() {
    let tests = ["boots", "fails", "is_not_reached"].map(str::to_owned);
    let passed = Case {
        name: "tests::boot::boots".into(),
        took: Duration::ZERO,
        failure: None,
    };
    assert_eq!(
        remaining("tests::boot", &tests, &[passed]),
        ["fails", "is_not_reached"]
    );
    assert_eq!(remaining("tests::boot", &tests, &[]), tests);
}
