//! Where a balloon should be, where it is, how fast it moves, and whether it is stuck. Pure: time is an argument.

use std::time::{Duration, Instant};

use memory::size::ByteSize;

use super::PAGE;
use super::news::{StallReason, StallReport};
use super::report::BalloonState;

/// A balloon that has come no nearer to its target for so long is stuck. Linux tries again five times a second.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where there is no driver yet: the guest may be booting.
const DRIVER_PATIENCE: Duration = Duration::from_secs(30);
/// The rate is that of the last one to two windows.
const WINDOW: Duration = Duration::from_secs(1);
/// A rate over less than this would be noise.
const SHORTEST: Duration = Duration::from_millis(20);
/// A guest with less than this is short of memory, and so is one with less than 1/16 of what it has.
const LITTLE: u64 = 16 << 20;

/// What the controller cannot see itself and a guess at the reason of a stall needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Evidence {
    /// The driver may deflate when the guest is short of memory.
    pub(super) deflate_on_oom: bool,
    /// What the guest said lately that it can still use, in bytes.
    pub(super) available: Option<u64>,
}

/// The figures of one balloon, in bytes.
#[derive(Clone, Debug)]
pub(super) struct Controller {
    ram: u64,
    /// What the guest shall keep; at most `ram`.
    target: u64,
    /// What the driver says is in the balloon; at most `ram`.
    claimed: u64,
    driver: bool,
    /// When the guest was stopped; no time passes for it since.
    stopped: Option<Instant>,
    /// How near to its target the balloon has come, and when.
    nearest: u64,
    since: Instant,
    /// The guest wants a page back that the host does not have.
    host_short: bool,
    /// The guest moved away from the target of its own accord.
    taken_back: bool,
    /// This stall has been told.
    told: bool,
    /// Earlier moments and what was in the balloon then, the older first.
    marks: [(Instant, u64); 2],
    /// When the balloon last moved.
    moved: Instant,
}

impl Controller {
    /// An empty balloon without a driver, whose target is all of `ram`.
    pub(super) fn new(now: Instant, ram: u64) -> Controller {
        Controller {
            ram,
            target: ram,
            claimed: 0,
            driver: false,
            stopped: None,
            nearest: 0,
            since: now,
            host_short: false,
            taken_back: false,
            told: false,
            marks: [(now, 0); 2],
            moved: now,
        }
    }

    pub(super) fn target(&self) -> u64 {
        self.target
    }

    pub(super) fn claimed(&self) -> u64 {
        self.claimed
    }

    /// What the guest has by its own account.
    pub(super) fn actual(&self) -> u64 {
        self.ram - self.claimed
    }

    pub(super) fn driver(&self) -> bool {
        self.driver
    }

    /// The size of the balloon that the target asks for, in pages of 4 KiB.
    pub(super) fn pages_wanted(&self) -> u32 {
        u32::try_from((self.ram - self.target) / PAGE).unwrap_or(u32::MAX)
    }

    /// The guest shall keep `target`; more than all is all.
    pub(super) fn set_target(&mut self, now: Instant, target: u64) {
        self.target = target.min(self.ram);
        self.start_over(now);
    }

    /// The driver says that `claimed` is in the balloon; more than all is all. Returns whether that is news.
    pub(super) fn claim(&mut self, now: Instant, claimed: u64) -> bool {
        let (before, now) = (self.distance(), self.clock(now));
        let claimed = claimed.min(self.ram);
        if claimed == self.claimed {
            return false;
        }
        if now.saturating_duration_since(self.moved) > WINDOW {
            // It stood still: what it does now began a window ago at the latest.
            let start = now.checked_sub(WINDOW).unwrap_or(self.moved);
            self.marks = [(start, self.claimed); 2];
        } else if now.saturating_duration_since(self.marks[1].0) >= WINDOW {
            self.marks = [self.marks[1], (now, self.claimed)];
        }
        self.moved = now;
        self.claimed = claimed;
        let distance = self.distance();
        if distance > before {
            self.taken_back = true;
        }
        if distance < self.nearest {
            (self.nearest, self.since) = (distance, now);
            (self.taken_back, self.told) = (false, false);
        } else if before == 0 {
            (self.nearest, self.since, self.told) = (distance, now, false);
        }
        true
    }

    /// A driver came or went.
    pub(super) fn set_driver(&mut self, now: Instant, driver: bool) {
        (self.driver, self.host_short) = (driver, false);
        self.start_over(now);
    }

    /// Whether the guest waits for a page that the host does not have: nothing has to be guessed then.
    pub(super) fn set_host_short(&mut self, now: Instant, short: bool) {
        if self.host_short != short {
            self.host_short = short;
            self.start_over(now);
        }
    }

    /// The guest runs, or is stopped: then it cannot be stuck.
    pub(super) fn set_running(&mut self, now: Instant, running: bool) {
        match (running, self.stopped) {
            (false, None) => self.stopped = Some(now),
            (true, Some(stopped)) => {
                let pause = now.saturating_duration_since(stopped);
                let [(older, _), (newer, _)] = &mut self.marks;
                for time in [&mut self.since, &mut self.moved, older, newer] {
                    *time += pause;
                }
                self.stopped = None;
            }
            (true, None) | (false, Some(_)) => {}
        }
    }

    pub(super) fn state(&self, now: Instant) -> BalloonState {
        let wanted = self.wanted();
        match () {
            () if !self.driver => BalloonState::NoDriver,
            () if self.host_short => BalloonState::Stalled,
            () if self.claimed == wanted && wanted == 0 => BalloonState::Idle,
            () if self.distance() == 0 => BalloonState::Converged,
            () if self.stuck(now) => BalloonState::Stalled,
            () if self.claimed < wanted => BalloonState::Inflating,
            () => BalloonState::Deflating,
        }
    }

    /// Bytes a second by which the guest's memory grows.
    pub(super) fn rate(&self, now: Instant) -> i64 {
        let now = self.clock(now);
        let (start, before) = self.marks[0];
        let time = now.saturating_duration_since(start).max(SHORTEST);
        if now.saturating_duration_since(self.moved) > WINDOW {
            return 0;
        }
        let change = i128::from(before) - i128::from(self.claimed);
        let rate = change * 1_000_000 / i128::try_from(time.as_micros()).unwrap_or(i128::MAX);
        i64::try_from(rate).unwrap_or(if rate < 0 { i64::MIN } else { i64::MAX })
    }

    /// When the target is reached if the guest goes on like this; `None` when it does not move towards it.
    pub(super) fn eta(&self, now: Instant) -> Option<Duration> {
        let (distance, rate) = (self.distance(), self.rate(now));
        let deflating = self.claimed > self.wanted();
        if distance == 0 || rate == 0 || deflating != (rate > 0) {
            return None;
        }
        let millis = u128::from(distance) * 1000 / u128::from(rate.unsigned_abs());
        Some(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    }

    /// When [`Controller::check`] is due, if nothing happens before.
    pub(super) fn next_check(&self) -> Option<Instant> {
        if self.told {
            return None;
        }
        let moving = self.distance() > 0 && self.stopped.is_none();
        match self.host_short {
            true => Some(self.since),
            false => moving.then(|| self.since + self.patience()),
        }
    }

    /// A stall that has not been told.
    pub(super) fn check(&mut self, now: Instant, evidence: &Evidence) -> Option<StallReport> {
        let stall = self.stall(now, evidence).filter(|_| !self.told)?;
        self.told = true;
        Some(stall)
    }

    /// The stall, while there is one.
    pub(super) fn stall(&self, now: Instant, evidence: &Evidence) -> Option<StallReport> {
        self.stuck(now).then(|| StallReport {
            reason: self.guess(evidence),
            since: self.clock(now).saturating_duration_since(self.since),
            target: ByteSize::from_bytes(self.target),
            actual: ByteSize::from_bytes(self.actual()),
        })
    }

    /// Where the balloon should be, as far as the driver can be told.
    fn wanted(&self) -> u64 {
        u64::from(self.pages_wanted()) * PAGE
    }

    fn distance(&self) -> u64 {
        self.claimed.abs_diff(self.wanted())
    }

    fn patience(&self) -> Duration {
        if self.driver { PATIENCE } else { DRIVER_PATIENCE }
    }

    /// The guest's now.
    fn clock(&self, now: Instant) -> Instant {
        self.stopped.unwrap_or(now)
    }

    fn stuck(&self, now: Instant) -> bool {
        let still = self.clock(now).saturating_duration_since(self.since);
        self.host_short || self.distance() > 0 && still >= self.patience()
    }

    /// What happened before says nothing about what comes.
    fn start_over(&mut self, now: Instant) {
        let now = self.clock(now);
        (self.nearest, self.since) = (self.distance(), now);
        (self.taken_back, self.told) = (false, false);
        (self.marks, self.moved) = ([(now, self.claimed); 2], now);
    }

    fn guess(&self, evidence: &Evidence) -> StallReason {
        if !self.driver {
            return StallReason::NoDriver;
        }
        if self.host_short {
            return StallReason::HostShort;
        }
        if self.claimed > self.wanted() {
            return StallReason::Silent;
        }
        if self.taken_back && evidence.deflate_on_oom {
            return StallReason::TakenBack;
        }
        match evidence.available {
            Some(free) if free < LITTLE.max(self.actual() / 16) => StallReason::GuestShort {
                free: ByteSize::from_bytes(free),
            },
            _ => StallReason::Silent,
        }
    }
}

#[cfg(test)]
mod tests;
