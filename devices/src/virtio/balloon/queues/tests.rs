use super::*;

/// Every subset of the six feature bits, against indices counted by hand.
#[test]
fn every_feature_subset_has_its_indices() {
    for features in 0..64 {
        let has = |bit: u64| features & bit != 0;
        let (stats, hints, reporting) = (has(F_STATS_VQ), has(F_FREE_PAGE_HINT), has(F_PAGE_REPORTING));
        assert_eq!(index(Role::Inflate, features), Some(0));
        assert_eq!(index(Role::Deflate, features), Some(1));
        assert_eq!(index(Role::Stats, features), stats.then_some(2));
        assert_eq!(
            index(Role::FreePageHint, features),
            hints.then_some(2 + usize::from(stats))
        );
        let place = 2 + usize::from(stats) + usize::from(hints);
        assert_eq!(index(Role::Reporting, features), reporting.then_some(place));
        assert_eq!(count(features), place + usize::from(reporting));
    }
}

#[test]
fn reporting_alone_is_queue_two() {
    assert_eq!(index(Role::Reporting, F_PAGE_REPORTING), Some(2));
}
