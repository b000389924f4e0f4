//! What a balloon has to tell, unasked.

use std::fmt;
use std::time::Duration;

use memory::size::ByteSize;

/// Called with each piece of news, from the device's thread; has to return quickly.
pub type OnNews = Box<dyn Fn(BalloonNews) + Send>;

/// What a balloon has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BalloonNews {
    /// The guest changed how much memory it has, to this size: RAM less what it claims to have given.
    Actual(ByteSize),
    /// The guest does not come nearer to its target. Told once each time that it gets stuck.
    Stalled(StallReport),
    /// The guest suffered and got everything back: the target is all RAM now.
    Distress(DistressReport),
    /// Statistics that were asked for, by poll or by hand, have come.
    StatsUpdated,
}

/// A balloon that does not move although it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StallReport {
    /// Why, as far as can be guessed from here.
    pub reason: StallReason,
    /// How long it has not moved.
    pub since: Duration,
    /// What the guest is asked to keep.
    pub target: ByteSize,
    /// What it says that it has.
    pub actual: ByteSize,
}

/// Why a balloon may be stuck.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallReason {
    /// Nobody drives it.
    NoDriver,
    /// The host has no huge page for what the guest wants back.
    HostShort,
    /// The guest gives memory and takes it back: it is short of memory and may deflate.
    TakenBack,
    /// The guest's statistics say that it has this little left.
    GuestShort {
        /// Free, or available without swapping where the guest says so.
        free: ByteSize,
    },
    /// The driver is there and does nothing.
    Silent,
}

impl StallReason {
    /// A word for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            StallReason::NoDriver => "no-driver",
            StallReason::HostShort => "host-short",
            StallReason::TakenBack => "taken-back",
            StallReason::GuestShort { .. } => "guest-short",
            StallReason::Silent => "silent",
        }
    }
}

/// A sentence for people.
impl fmt::Display for StallReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StallReason::NoDriver => f.write_str("the guest has no driver for its balloon"),
            StallReason::HostShort => {
                f.write_str("the host has no free huge page for what the guest wants back")
            }
            StallReason::TakenBack => {
                f.write_str("the guest is short of memory and takes back what it gives (deflate-on-oom)")
            }
            StallReason::GuestShort { free } => {
                write!(
                    f,
                    "the guest has no more to give: {} MiB available",
                    free.bytes() >> 20
                )
            }
            StallReason::Silent => {
                f.write_str("the guest's driver does not answer, or finds no memory to give")
            }
        }
    }
}

/// A guest that suffered and got its memory back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DistressReport {
    /// What said so, each with how far it rose between two reports of statistics: the statistics' names.
    pub signs: Vec<(&'static str, u64)>,
    /// The target until then.
    pub target: ByteSize,
    /// What was in the balloon.
    pub given_back: ByteSize,
}
