//! Which queue of a balloon is which.
//!
//! The specification numbers five queues, but drivers and devices have long left out the numbers of those that do not
//! exist: with page reporting and without statistics and hints, the reporting queue is number 2. So an index is only
//! known when the features are.

use super::{F_FREE_PAGE_HINT, F_PAGE_REPORTING, F_STATS_VQ};

/// What a queue is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Inflate,
    Deflate,
    Stats,
    FreePageHint,
    Reporting,
}

/// The queues in their order, each with the feature without which it does not exist (0: it always does).
const ROLES: [(Role, u64); 5] = [
    (Role::Inflate, 0),
    (Role::Deflate, 0),
    (Role::Stats, F_STATS_VQ),
    (Role::FreePageHint, F_FREE_PAGE_HINT),
    (Role::Reporting, F_PAGE_REPORTING),
];

/// Those that exist with `features`, in the order of their indices.
fn present(features: u64) -> impl Iterator<Item = Role> {
    ROLES
        .into_iter()
        .filter(move |(_, needs)| features & needs == *needs)
        .map(|(role, _)| role)
}

/// How many queues there are with `features`.
pub(super) fn count(features: u64) -> usize {
    present(features).count()
}

/// The index of the queue for `role` with `features`, if there is one.
pub(super) fn index(role: Role, features: u64) -> Option<usize> {
    present(features).position(|present| present == role)
}

#[cfg(test)]
mod tests;
