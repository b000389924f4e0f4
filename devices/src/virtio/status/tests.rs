use super::*;

#[test]
fn steps_lead_from_reset_to_ready() {
    assert_eq!(step(0, 1), Some(Step::Set));
    assert_eq!(step(1, 3), Some(Step::Set));
    assert_eq!(step(3, 11), Some(Step::CheckFeatures));
    assert_eq!(step(11, 15), Some(Step::Start));
}

/// All 65536 pairs: exactly the table, repetition, and giving up.
#[test]
fn nothing_else_leads_anywhere() {
    for from in 0..=255 {
        for to in 0..=255 {
            let (a, b) = (from & !NEEDS_RESET, to & !NEEDS_RESET);
            let listed = STEPS.iter().any(|(x, y, _)| (*x, *y) == (a, b));
            let expected = listed || a == b || b == a | FAILED;
            assert_eq!(step(from, to).is_some(), expected, "{from:#x} to {to:#x}");
        }
    }
}

#[test]
fn the_drivers_needs_reset_bit_is_ignored() {
    assert_eq!(step(11, 15 | NEEDS_RESET), Some(Step::Start));
    assert_eq!(step(15 | NEEDS_RESET, 15), Some(Step::Set));
}

#[test]
fn starting_happens_once() {
    let live = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK;
    assert_eq!(step(live, live), Some(Step::Set));
    assert_eq!(step(live | FAILED, live), None);
}
