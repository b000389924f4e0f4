use vm_memory::{Bytes, VolatileMemory};

use super::*;
use crate::proc;

fn request(size: u64, guest_start: u64) -> MapRequest<'static> {
    MapRequest {
        size: ByteSize::from_bytes(size),
        page: PageSize::BASE,
        align: None,
        guest_start,
        file: None,
        reserve: false,
    }
}

#[test]
fn host_and_guest_addresses_agree_modulo_the_alignment() {
    for guest_start in [0, 4096, 3 << 20, (1 << 32) + (5 << 20) + 8192] {
        let mapping = Mapping::new(&request(8 << 20, guest_start)).unwrap();
        assert_eq!(mapping.address() % (2 << 20), guest_start % (2 << 20));
        let mut large = request(8 << 20, guest_start);
        large.page = PageSize::HUGE_1G;
        let mapping = Mapping::new(&large).unwrap();
        assert_eq!(mapping.address() % (1 << 30), guest_start % (1 << 30));
        let mut aligned = request(8 << 20, guest_start);
        aligned.align = Some(ByteSize::gib(4));
        let mapping = Mapping::new(&aligned).unwrap();
        assert_eq!(mapping.address() % (1 << 32), guest_start % (1 << 32));
    }
}

#[test]
fn nothing_outside_is_reached() {
    let mapping = Mapping::new(&request(8192, 0)).unwrap();
    for (offset, len) in [(0, 8193), (8192, 1), (u64::MAX, 1), (1, u64::MAX), (4096, 8192)] {
        let span = Span { offset, len };
        for advice in [Advice::DontNeed, Advice::Remove, Advice::PopulateWrite] {
            let error = mapping.advise(span, advice).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{span:?}");
        }
        assert!(mapping.touch(span, PageSize::BASE).is_err());
        assert!(mapping.view(span).is_err());
    }
}

#[test]
fn smaps_shows_a_mapping_alone() {
    let first = Mapping::new(&request(4 << 20, 0)).unwrap();
    let second = Mapping::new(&request(4 << 20, 0)).unwrap();
    for mapping in [&first, &second] {
        assert_eq!(proc::smaps(mapping).unwrap().size("Size"), ByteSize::mib(4));
    }
}

#[test]
fn a_view_outlives_its_mapping() {
    let mapping = Mapping::new(&request(8192, 0)).unwrap();
    let address = mapping.address();
    let view = mapping.view(mapping.whole()).unwrap();
    drop(mapping);
    view.as_volatile_slice().write_obj(7_u32, 4096).unwrap();
    assert_eq!(view.as_volatile_slice().read_obj::<u32>(4096).unwrap(), 7);
    assert!(is_mapped(address));
}

#[test]
fn a_mapping_without_views_goes_away() {
    let mapping = Mapping::new(&request(64 << 20, 0)).unwrap();
    let address = mapping.address();
    drop(mapping.view(mapping.whole()).unwrap());
    assert!(is_mapped(address));
    drop(mapping);
    // Another test's thread may map something there, but not all of it as ours.
    assert!(!is_mapped(address));
}

/// Whether a mapping of this process starts at `address`.
fn is_mapped(address: u64) -> bool {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines()
        .any(|line| line.starts_with(&format!("{address:x}-")))
}

#[test]
fn touching_provides_pages_and_changes_nothing() {
    let mapping = Mapping::new(&request(64 << 10, 0)).unwrap();
    let view = mapping.view(mapping.whole()).unwrap();
    view.as_volatile_slice().write_obj(0xABCD_u32, 8192).unwrap();
    mapping.touch(mapping.whole(), PageSize::BASE).unwrap();
    assert_eq!(proc::smaps(&mapping).unwrap().size("Rss").bytes(), 64 << 10);
    assert_eq!(view.as_volatile_slice().read_obj::<u32>(8192).unwrap(), 0xABCD);
}
