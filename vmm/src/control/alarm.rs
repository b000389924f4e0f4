//! A clock that rings once: a timerfd, for a loop that waits for descriptors.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

/// Readable once its time has come.
#[derive(Debug)]
pub(super) struct Alarm(OwnedFd);

impl Alarm {
    pub(super) fn new() -> Result<Alarm, Errno> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        timerfd_create(TimerfdClockId::Monotonic, flags).map(Alarm)
    }

    /// Rings at `due`, and no more at what was set before.
    pub(super) fn set(&self, due: Instant) {
        let left = due.saturating_duration_since(Instant::now());
        // A value of 0 would mean never.
        let left = left.max(Duration::from_millis(1));
        let once = Itimerspec {
            it_interval: Timespec::default(),
            it_value: Timespec::try_from(left).unwrap_or_default(),
        };
        if let Err(error) = timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once) {
            tracing::warn!("cannot set the alarm for events, late answers and clients: {error}");
        }
    }

    /// Takes notice that it rang.
    pub(super) fn silence(&self) {
        // Empty (EAGAIN) is as good.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for Alarm {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
