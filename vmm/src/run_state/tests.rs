use super::*;

const ALL: [RunState; 7] = [
    Prelaunch,
    Running,
    Paused,
    MemoryStarved,
    GuestPanicked,
    InternalError,
    Shutdown,
];

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

#[test]
fn a_reset_can_be_short_of_memory_in_every_state_that_it_begins_in() {
    for state in ALL {
        let resets = !matches!(state, InternalError | Shutdown);
        let told = state == MemoryStarved || state.may_become(MemoryStarved);
        assert_eq!(resets, told, "{state}");
    }
}
