mod model;
mod refusals;
mod release;
mod residency;
mod start;

use super::*;
use crate::backend::BackendKind;
use crate::testing::{MEMFD, spec};

#[test]
fn knows_where_everything_is() {
    let mut second = spec(MEMFD, 6);
    second.id = "mem1".to_owned();
    let ram = Ram::open(vec![spec(BackendKind::Ram, 3), second], &()).unwrap();
    assert_eq!(ram.size(), ByteSize::mib(9));
    let [first, second] = ram.regions() else {
        panic!("{:?}", ram.regions())
    };
    assert_eq!((first.backend(), second.backend()), (0, 1));
    assert_eq!(second.guest(), GuestRange::new(GuestAddress(3 << 20), 6 << 20));
    assert_eq!(ram.region_at(GuestAddress(0)), Some(first));
    assert_eq!(ram.region_at(GuestAddress((9 << 20) - 1)), Some(second));
    assert_eq!(ram.region_at(GuestAddress(9 << 20)), None);
    assert_eq!(ram.page_size_at(GuestAddress(5 << 20)), Some(PageSize::BASE));
    assert!(!ram.huge_backing());
    for region in ram.regions() {
        let inside = region.host_address() + 12_345;
        let guest = GuestAddress(region.guest().start.0 + 12_345);
        assert_eq!(ram.locate(inside), Some((guest, region.backend())));
        assert_eq!(
            region.host_address() % (2 << 20),
            region.guest().start.0 % (2 << 20)
        );
        assert_eq!(ram.locate(region.host_address() - 1), None);
    }
}

#[test]
fn ram_across_the_hole_is_one_backend() {
    let ram = Ram::open(vec![spec(BackendKind::Ram, 5120)], &()).unwrap();
    let [low, high] = ram.regions() else {
        panic!("{:?}", ram.regions())
    };
    assert_eq!(high.host_address() - low.host_address(), 3 << 30);
    assert_eq!(high.offset(), 3 << 30);
    assert_eq!(ram.residency().unwrap()[0].resident, ByteSize::ZERO, "lazy");
}

#[test]
fn a_clone_of_the_memory_outlives_the_ram() {
    use vm_memory::Bytes;
    let ram = Ram::open(vec![spec(BackendKind::Ram, 2)], &()).unwrap();
    let memory = ram.memory().clone();
    drop(ram);
    memory.write_obj(1_u64, GuestAddress(0)).unwrap();
}
