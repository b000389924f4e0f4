use super::*;

fn after(taken: u64, served: u64) -> bool {
    let before = FaultCount {
        taken: 1000,
        served: 900,
    };
    is_stuck(
        before,
        FaultCount {
            taken: 1000 + taken,
            served: 900 + served,
        },
    )
}

#[test]
fn faults_that_nobody_serves_are_noticed() {
    assert!(after(32, 0));
    assert!(after(800, 3), "interrupt handlers still touch pages");
}

#[test]
fn a_busy_healthy_guest_is_left_alone() {
    assert!(!after(500, 250), "each fault needed a second try");
    assert!(!after(31, 0));
    assert!(!after(0, 0));
}
