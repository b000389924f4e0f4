use vm_memory::{Bytes, GuestAddress};

use crate::backend::{BackendKind, Lock, Prealloc};
use crate::range::GuestRange;
use crate::testing::{MEMFD, MIB, open, resident, spec};

#[test]
fn only_the_page_is_replaced() {
    const PAGE: u64 = 4096;
    for (kind, lock) in [
        (BackendKind::Ram, Lock::Off),
        (BackendKind::Ram, Lock::On),
        (MEMFD, Lock::Off),
        (MEMFD, Lock::On),
    ] {
        let mut spec = spec(kind, 1);
        (spec.lock, spec.prealloc) = (lock, Prealloc::On);
        let ram = match open(spec) {
            Ok(ram) => ram,
            Err(error) if lock == Lock::On => {
                eprintln!("NOT CHECKED: locked memory: {error}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        let [before, broken, after] = [2, 3, 4].map(|page| GuestAddress(page * PAGE));
        for address in [before, broken, after] {
            ram.memory().write_obj(7_u32, address).unwrap();
        }
        ram.replace(&[GuestRange::new(broken, PAGE)]);
        assert_eq!(resident(&ram), MIB - PAGE);
        let words: [u32; 3] = [before, broken, after].map(|address| ram.memory().read_obj(address).unwrap());
        assert_eq!(words, [7, 0, 7]);
    }
}
