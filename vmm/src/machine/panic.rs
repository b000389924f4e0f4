//! A guest whose kernel has panicked, and told so by pvpanic.

use super::{Machine, Outcome};
use crate::cli::lifecycle::PanicAction;
use crate::control::event::{Event, ShutdownReason};
use crate::run_state::RunState;

impl Machine {
    /// Does what `-action panic=` says; a guest with another kernel for this goes on in any case.
    pub(super) fn guest_panicked(&mut self, crash_loaded: bool) {
        if self.outcome.is_some() {
            return;
        }
        if crash_loaded {
            self.events.push(Event::GuestCrashLoaded);
            return self.go_on();
        }
        let action = self.on_panic;
        self.events.push(Event::GuestPanicked { action });
        match action {
            PanicAction::None => self.go_on(),
            PanicAction::Pause if self.attended => {
                if !self.pause() {
                    tracing::warn!("a vCPU did not stop in time");
                }
                // One that was stopped at the same moment is stopped.
                if self.become_state(RunState::GuestPanicked).is_ok() {
                    self.events.push(Event::Stop);
                }
            }
            PanicAction::Pause => {
                eprintln!("ballast: the guest panicked; without -qmp or -monitor nobody can look at it");
                self.shut_down(Outcome::Failed, true, ShutdownReason::GuestPanic);
            }
            PanicAction::Shutdown => self.shut_down(Outcome::Ended, true, ShutdownReason::GuestPanic),
            PanicAction::ExitFailure => self.shut_down(Outcome::Failed, true, ShutdownReason::GuestPanic),
        }
    }

    /// The vCPU that told it has shut the gate behind it.
    fn go_on(&mut self) {
        if self.run_state == RunState::Running && self.pause() {
            self.run();
        }
    }
}
