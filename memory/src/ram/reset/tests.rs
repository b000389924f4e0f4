use vm_memory::{Bytes, GuestAddress};

use crate::backend::{BackendKind, Prealloc};
use crate::ram::{PreallocState, Ram};
use crate::release::Reason;
use crate::testing::{HUGE_MEMFD, HugePages, MEMFD, MIB, open, resident, spec};

const MARK: u64 = 0x0123_4567_89ab_cdef;

/// Writes a word to the middle of each MiB.
fn write(ram: &Ram) {
    for address in (0..ram.size().bytes()).step_by(1 << 20) {
        let address = GuestAddress(address + MIB / 2);
        ram.memory().write_obj(MARK, address).unwrap();
    }
}

/// How many of those words are still there.
fn left(ram: &Ram) -> u64 {
    let all = (0..ram.size().bytes()).step_by(1 << 20);
    let words = all.map(|address| ram.memory().read_obj(GuestAddress(address + MIB / 2)).unwrap());
    words.filter(|word: &u64| *word == MARK).count() as u64
}

#[test]
fn lazy_memory_goes_back_and_is_zero() {
    for kind in [BackendKind::Ram, MEMFD] {
        let ram = open(spec(kind, 5)).unwrap();
        write(&ram);
        assert_eq!(left(&ram), 5);
        assert!(ram.reset() >= 5 * MIB);
        assert_eq!(resident(&ram), 0);
        assert_eq!(left(&ram), 0);
    }
}

#[test]
fn preallocated_memory_stays() {
    for kind in [BackendKind::Ram, MEMFD] {
        let mut spec = spec(kind, 4);
        spec.prealloc = Prealloc::On;
        let ram = open(spec).unwrap();
        write(&ram);
        assert_eq!(ram.reset(), 0);
        assert_eq!((resident(&ram), left(&ram)), (4 * MIB, 4));
    }
}

#[test]
fn memory_that_was_not_filled_to_the_end_goes_back() {
    let ram = open(spec(BackendKind::Ram, 4096)).unwrap();
    let backend = &ram.backends()[0];
    backend.set_prealloc(true).unwrap();
    assert!(backend.cancel_fill());
    while backend.prealloc().state == PreallocState::Running {
        std::thread::yield_now();
    }
    assert_eq!(backend.prealloc().state, PreallocState::Cancelled);
    ram.reset();
    assert_eq!(resident(&ram), 0);
}

#[test]
fn a_new_guest_has_reported_nothing() {
    let ram = open(spec(MEMFD, 4)).unwrap();
    let given = &ram.backends()[0].opened.given;
    given.mark(&[ram.backends()[0].opened.mapping.whole()], Reason::Reported);
    assert!(given.unless_given(0, || ()).is_none());
    ram.reset();
    assert!(given.unless_given(0, || ()).is_some());
}

#[test]
fn reserved_huge_pages_stay_and_others_go() {
    let _pool = HugePages::with_free(4);
    let (free, reserved) = HugePages::free_and_reserved();
    let ram = open(spec(HUGE_MEMFD, 8)).unwrap();
    write(&ram);
    assert_eq!(ram.reset(), 0);
    assert_eq!(left(&ram), 8);
    drop(ram);
    assert_eq!(HugePages::free_and_reserved(), (free, reserved));

    let mut lazy = spec(HUGE_MEMFD, 8);
    lazy.reserve = Some(false);
    let ram = open(lazy).unwrap();
    write(&ram);
    assert_eq!(ram.reset(), 8 * MIB);
    assert_eq!(HugePages::free_and_reserved().0, free);
    assert_eq!(left(&ram), 0);
}
