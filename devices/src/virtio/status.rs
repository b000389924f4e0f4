//! Device status: which value may follow which (virtio 1.2, §2.1 and §3.1.1).

/// The guest has noticed the device.
pub(super) const ACKNOWLEDGE: u8 = 1;
/// The guest knows how to drive it.
pub(super) const DRIVER: u8 = 2;
/// The driver is ready.
pub(super) const DRIVER_OK: u8 = 4;
/// The features are agreed.
pub(super) const FEATURES_OK: u8 = 8;
/// The device cannot go on without a reset. Set by the device only.
pub(super) const NEEDS_RESET: u8 = 64;
/// The guest has given up on the device.
pub(super) const FAILED: u8 = 128;

/// What a driver's write of the status means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The value changes, and nothing else happens.
    Set,
    /// The features have to be judged first.
    CheckFeatures,
    /// The queues go live.
    Start,
}

/// Every step forward there is: from, to, meaning. Writing the same value again is no step; writing 0 is a reset and
/// allowed from everywhere, and so is adding [`FAILED`].
const STEPS: [(u8, u8, Step); 4] = [
    (0, ACKNOWLEDGE, Step::Set),
    (ACKNOWLEDGE, ACKNOWLEDGE | DRIVER, Step::Set),
    (
        ACKNOWLEDGE | DRIVER,
        ACKNOWLEDGE | DRIVER | FEATURES_OK,
        Step::CheckFeatures,
    ),
    (
        ACKNOWLEDGE | DRIVER | FEATURES_OK,
        ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK,
        Step::Start,
    ),
];

/// What writing `to` (not 0) means in status `from`; `None` when it cannot follow.
///
/// NEEDS_RESET is the device's: what the driver writes into that bit is ignored.
pub(super) fn step(from: u8, to: u8) -> Option<Step> {
    let (from, to) = (from & !NEEDS_RESET, to & !NEEDS_RESET);
    if to == from || to == from | FAILED {
        return Some(Step::Set);
    }
    STEPS
        .iter()
        .find(|(a, b, _)| (*a, *b) == (from, to))
        .map(|(_, _, step)| *step)
}

#[cfg(test)]
mod tests;
