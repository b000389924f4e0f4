//! A balloon at one moment, for whoever asks.

use std::fmt;
use std::time::Duration;

use memory::size::ByteSize;

use super::news::StallReport;
use super::{
    F_DEFLATE_ON_OOM, F_FREE_PAGE_HINT, F_MUST_TELL_HOST, F_PAGE_POISON, F_PAGE_REPORTING, F_STATS_VQ,
};

/// What a balloon is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BalloonState {
    /// No driver is there. A target is kept for the next one.
    NoDriver,
    /// The guest has all its memory, as it should.
    Idle,
    /// The guest is giving memory.
    Inflating,
    /// The guest is taking memory back.
    Deflating,
    /// The guest should give or take, and has not come nearer to its target for a while.
    Stalled,
    /// The guest has what it should have, less than all.
    Converged,
}

impl BalloonState {
    /// A word for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            BalloonState::NoDriver => "no-driver",
            BalloonState::Idle => "idle",
            BalloonState::Inflating => "inflating",
            BalloonState::Deflating => "deflating",
            BalloonState::Stalled => "stalled",
            BalloonState::Converged => "converged",
        }
    }
}

impl fmt::Display for BalloonState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a balloon has done, in bytes. Figures that are not each other: see each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BalloonCounters {
    /// In the balloon now, by the guest's own account.
    pub inflated: u64,
    /// Discarded since start out of the inflate queue: whole backing pages whose release succeeded. A page that was
    /// inflated twice counts twice, and one that was never touched counts too, so this is not what the host gained.
    pub discarded: u64,
    /// The same, of free pages that the guest reported.
    pub reported: u64,
    /// Pieces of large backing pages that wait for the rest of their page, now.
    pub partial: u64,
    /// Since start: what a backend does not release.
    pub refused: u64,
    /// Since start: what the host failed to release.
    pub failed: u64,
    /// Since start: parts of large backing pages that were reported without the rest of their page.
    pub rounded: u64,
    /// Huge pages whose reservation in the host's pool was given up with them and not taken again, now. Those that the
    /// guest took again without a word, as it does with reported pages, are among them.
    pub unreserved: u64,
    /// Since start: not released because a release was inhibited.
    pub inhibited: u64,
    /// Since start: reported, and not released because the guest wants to find its poison there.
    pub poisoned: u64,
}

/// The part of one backend in [`BalloonCounters`], in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackendFigures {
    /// Of its pages, those that the driver has sent through the inflate queue and not yet through the deflate queue. Not
    /// what the driver claims in sum: that comes by another way, a little later, and a driver may well contradict itself.
    pub inflated: u64,
    /// As [`BalloonCounters::discarded`].
    pub discarded: u64,
    /// As [`BalloonCounters::reported`].
    pub reported: u64,
    /// As [`BalloonCounters::partial`].
    pub partial: u64,
}

/// Whether free page reporting works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReportingState {
    /// The driver reports, and what it reports is released.
    On,
    /// Nothing is released by it, for this reason.
    Off(String),
    /// It is offered, and the driver does not use it, or there is no driver.
    NotNegotiated,
}

/// A balloon at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalloonReport {
    /// What it is doing.
    pub state: BalloonState,
    /// What the guest is asked to keep.
    pub target: ByteSize,
    /// What the guest says it has.
    pub actual: ByteSize,
    /// The least that a target may be.
    pub floor: ByteSize,
    /// Bytes a second by which `actual` grew in the last second or two; negative while the balloon inflates.
    pub rate: i64,
    /// When the target is reached, at this rate.
    pub eta: Option<Duration>,
    /// What it has done.
    pub counters: BalloonCounters,
    /// Names of the features that the device offers.
    pub offered: Vec<&'static str>,
    /// Names of those that the driver has accepted; none without a driver.
    pub accepted: Vec<&'static str>,
    /// Free page reporting.
    pub reporting: ReportingState,
    /// What the guest fills its free pages with, where it said so.
    pub poison_val: Option<u32>,
    /// Why nothing is released at the moment, and how often each reason holds.
    pub inhibitors: Vec<(String, u32)>,
    /// What is wrong, where it should move and does not.
    pub stall: Option<StallReport>,
}

/// The balloon's own features, by the names of QEMU's properties where it has one.
const FEATURES: [(u64, &str); 6] = [
    (F_MUST_TELL_HOST, "must-tell-host"),
    (F_STATS_VQ, "guest-stats"),
    (F_DEFLATE_ON_OOM, "deflate-on-oom"),
    (F_FREE_PAGE_HINT, "free-page-hint"),
    (F_PAGE_POISON, "page-poison"),
    (F_PAGE_REPORTING, "free-page-reporting"),
];

/// The names of the balloon's own features among `features`.
pub(super) fn feature_names(features: u64) -> Vec<&'static str> {
    FEATURES
        .into_iter()
        .filter(|(bit, _)| features & bit != 0)
        .map(|(_, name)| name)
        .collect()
}
