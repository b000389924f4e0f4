use super::*;
use crate::testing::{HUGE_MEMFD, spec};

#[test]
fn the_summary_shows_what_differs_from_what_was_asked() {
    let effective = Effective {
        kind: "hugetlb memfd".to_owned(),
        size: ByteSize::mib(512),
        page_size: PageSize::HUGE_2M,
        share: true,
        reserve: true,
        prealloc: false,
        merge: false,
        thp: false,
        lock: true,
        dump: true,
        policy: "bind 1".to_owned(),
    };
    let mut asked = spec(HUGE_MEMFD, 512);
    asked.share = Some(false);
    assert_eq!(
        effective.summary(&asked),
        "backend 'mem0': 512 MiB of hugetlb memfd, pages of 2 MiB: share=on (asked off), reserve=on, prealloc=off, \
         merge=off, thp=off, lock=on, dump=on, policy=bind 1 (asked default)"
    );
    assert_eq!(effective.differs(&asked), ["share", "policy"]);
}
