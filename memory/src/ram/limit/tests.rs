use std::path::PathBuf;

use super::*;
use crate::backend::BackendSpec;
use crate::testing::{HUGE_MEMFD, spec};

fn claim(mib: u64) -> Claim {
    let spec: BackendSpec = spec(HUGE_MEMFD, mib);
    Claim::new(&spec, PageSize::HUGE_2M)
}

fn limit(current: u64, max: u64) -> impl Fn(PageSize) -> Option<Limit> {
    move |page| {
        (page == PageSize::HUGE_2M).then(|| Limit {
            file: PathBuf::from("/group/hugetlb.2MB.max"),
            max: ByteSize::mib(max),
            current: ByteSize::mib(current),
        })
    }
}

#[test]
fn all_backends_count_together() {
    let claims = [("a", claim(64)), ("b", claim(64))];
    assert_eq!(check_against(&claims, limit(0, 128)), Ok(()));
    let error = check_against(&claims, limit(2, 128)).unwrap_err().to_string();
    assert_eq!(
        error,
        "backends 'a', 'b' need together 64 pages of 2 MiB (128 MiB): 126 MiB of 128 MiB left by \
         /group/hugetlb.2MB.max; raise that limit (echo 136314880 > /group/hugetlb.2MB.max) or make the guest smaller"
    );
    let error = check_against(&claims[..1], limit(66, 128))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("backend 'a' needs 32 pages"), "{error}");
}

#[test]
fn limits_of_other_pages_do_not_count() {
    let other = Claim::new(&spec(HUGE_MEMFD, 1024), PageSize::HUGE_1G);
    assert_eq!(check_against(&[("a", other)], limit(0, 0)), Ok(()));
    assert_eq!(check_against(&[], limit(0, 0)), Ok(()));
    assert_eq!(check_against(&[("a", claim(2))], |_| None), Ok(()));
}
