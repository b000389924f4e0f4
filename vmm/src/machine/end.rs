//! How a machine ends.

use super::{Error, Machine, Outcome};
use crate::control::event::{Event, ShutdownReason};
use crate::host::signals::Ending;
use crate::run_state::RunState;

impl Machine {
    /// Presses the power button; what follows is the guest's decision.
    pub fn system_powerdown(&mut self) -> Result<(), Error> {
        self.events.push(Event::Powerdown);
        self.parts.power.press_power_button().map_err(Error::PowerButton)
    }

    /// Ends the machine because a client of QMP or the monitor said so.
    pub fn quit(&mut self) {
        self.end("'quit'", ShutdownReason::HostQmpQuit);
    }

    /// Ends the machine because a signal said so. A guest that runs is asked to power down, once.
    pub fn end_by_signal(&mut self, ending: Ending) {
        if self.abort_start() {
            return;
        }
        let asks = ending == Ending::PowerDown && self.run_state == RunState::Running && !self.asked_to_end;
        if asks && self.system_powerdown().is_ok() {
            self.asked_to_end = true;
            eprintln!("ballast: SIGTERM: the guest is asked to power down; another one ends it at once");
        } else {
            self.end("a signal", ShutdownReason::HostSignal);
        }
    }

    /// Ends the machine because of `what`. Before the end of its start it was not started, and whoever waits for that is told.
    pub(super) fn end(&mut self, what: &str, reason: ShutdownReason) {
        if self.started {
            self.shut_down(Outcome::Ended, false, reason);
        } else if self.outcome.is_none() {
            eprintln!("ballast: {what} came before the guest was started");
            self.shut_down(Outcome::NotStarted, false, reason);
        }
    }

    /// The end, unless it has come already.
    pub(super) fn shut_down(&mut self, outcome: Outcome, guest: bool, reason: ShutdownReason) {
        if self.become_state(RunState::Shutdown).is_err() {
            return;
        }
        if !self.pause() {
            tracing::warn!("a vCPU did not stop in time");
        }
        self.outcome = Some(outcome);
        self.events.push(Event::Shutdown { guest, reason });
    }
}
