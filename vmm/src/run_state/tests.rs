use super::*;

const ALL: [RunState; 6] = [Prelaunch, Running, Paused, MemoryStarved, InternalError, Shutdown];

#[test]
fn nothing_follows_shutdown() {
    assert!(ALL.iter().all(|next| !Shutdown.may_become(*next)));
}

#[test]
fn every_state_can_end() {
    assert!(
        ALL.iter()
            .filter(|state| **state != Shutdown)
            .all(|state| state.may_become(Shutdown))
    );
}

#[test]
fn a_broken_vcpu_is_never_run_again() {
    assert!(!InternalError.may_become(Running));
}

#[test]
fn no_state_follows_itself() {
    assert!(ALL.iter().all(|state| !state.may_become(*state)));
}
