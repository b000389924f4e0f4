use crate::backend::{BackendKind, Thp};
use crate::range::GuestRange;
use crate::testing::{HUGE_MEMFD, HugePages, MEMFD, MIB, Mount, directory, open, resident, spec};

#[test]
fn what_lies_in_the_range_is_there() {
    for kind in [BackendKind::Ram, MEMFD] {
        let mut small = spec(kind, 8);
        small.thp = Thp::Off;
        let ram = open(small).unwrap();
        ram.provide(GuestRange::between(MIB + 1, 2 * MIB + 1)).unwrap();
        assert_eq!(resident(&ram), MIB + 4096);
        // There is no RAM behind its end.
        ram.provide(GuestRange::between(7 * MIB, 9 * MIB)).unwrap();
        assert_eq!(resident(&ram), 2 * MIB + 4096);
    }
}

#[test]
fn a_pool_that_is_short_is_told_with_its_figures() {
    let _pool = HugePages::with_free(2);
    let mut lazy = spec(HUGE_MEMFD, 16);
    lazy.reserve = Some(false);
    let ram = open(lazy).unwrap();
    ram.provide(GuestRange::between(MIB, 3 * MIB)).unwrap();
    let error = ram
        .provide(GuestRange::between(MIB, 11 * MIB))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("needs 8 pages of 2 MiB: 0 free") && error.contains("make the pool larger"),
        "{error}"
    );
}

#[test]
fn a_full_file_system_is_told_with_its_room() {
    let mount = Mount::new("tmpfs", "size=2M");
    let mut full = spec(directory(mount.path()), 8);
    full.reserve = Some(false);
    let ram = open(full).unwrap();
    let error = ram
        .provide(GuestRange::between(0, 4 * MIB))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("has no memory for the 4 MiB at 0") && error.contains("has room for"),
        "{error}"
    );
}
