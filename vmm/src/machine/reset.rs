//! Reset: the machine becomes what it was after power-on, in a thread of its own, since workers and memory are waited for.
//!
//! The vCPUs stand still all the while, and the run state does not change: a machine that runs goes on running, one that was
//! stopped stays so. `stop` and `cont` mean what comes after.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use memory::range::GuestRange;

use super::{Machine, Outcome};
use crate::build;
use crate::build::power_on::PowerOn;
use crate::control::event::{Event, ShutdownReason};
use crate::kvm::vcpu::Vcpu;
use crate::news::{News, NewsSender};
use crate::run_state::RunState;
use crate::starvation::watch::Watch;
use crate::told::chain;
use crate::vcpu_thread::Kickable;

/// How long the end of Ballast waits for a start or reset that is under way.
const END_DEADLINE: Duration = Duration::from_secs(5);

/// A reset that is under way.
#[derive(Debug)]
pub(super) struct Reset {
    guest: bool,
    reason: ShutdownReason,
    thread: JoinHandle<()>,
}

impl Reset {
    fn start(
        power_on: Arc<PowerOn>,
        (old, broken): (Vec<Vcpu>, Vec<GuestRange>),
        (guest, reason): (bool, ShutdownReason),
        news: NewsSender,
    ) -> io::Result<Reset> {
        let thread = thread::Builder::new()
            .name("reset".to_owned())
            .spawn(move || news.send(News::Reset(power_on.again(old, &broken))))?;
        Ok(Reset {
            guest,
            reason,
            thread,
        })
    }
}

impl Drop for Reset {
    /// As with the vCPUs' threads: who holds guest memory must not be overtaken by the end of the process.
    fn drop(&mut self) {
        wait_for_end(&self.thread);
    }
}

/// Waits for a thread that holds guest memory, within bounds.
pub(super) fn wait_for_end(thread: &JoinHandle<()>) {
    let deadline = Instant::now() + END_DEADLINE;
    while !thread.is_finished() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

impl Machine {
    /// Resets the machine because a user said so; with `-no-reboot` that is its end.
    pub fn system_reset(&mut self) {
        self.reset(false, ShutdownReason::HostQmpSystemReset);
    }

    /// The guest asked for it, or has died of a triple fault.
    pub(super) fn guest_reset(&mut self) {
        self.reset(true, ShutdownReason::GuestReset);
    }

    /// A triple fault is told, but not each of a guest that dies again and again.
    pub(super) fn triple_fault(&mut self, vcpu: u8) {
        self.triple_faults = self.triple_faults.saturating_add(1);
        if self.triple_faults.is_power_of_two() {
            let times = self.triple_faults;
            tracing::warn!(times, "vCPU {vcpu}: triple fault: the guest is reset");
        }
        self.guest_reset();
    }

    /// Whether the machine is being reset: no vCPU can run, and what one has told is about a guest that is gone.
    pub(super) fn is_resetting(&self) -> bool {
        self.reset.is_some()
    }

    fn reset(&mut self, guest: bool, reason: ShutdownReason) {
        if !self.reboots {
            return self.shut_down(Outcome::Ended, guest, reason);
        }
        let over = matches!(self.run_state, RunState::InternalError | RunState::Shutdown);
        if over || self.is_resetting() {
            return;
        }
        if self.is_starting() {
            // What a reset makes of it, it is already.
            return self.events.push(Event::Reset { guest, reason });
        }
        if !self.pause() {
            return self.cannot_reset("a vCPU did not stop in time");
        }
        // A worker that waits for a page has to get through, or to tell once more. What is lost was the old guest's.
        let broken = self.give_up_memory();
        // Its statistics are of the old vCPUs, and would keep their VM.
        self.watch = None;
        let old = self.threads.vacate();
        let started = Reset::start(
            Arc::clone(&self.parts.power_on),
            (old, broken),
            (guest, reason),
            self.news.clone(),
        );
        match started {
            Ok(reset) => self.reset = Some(reset),
            Err(error) => self.cannot_reset(&format!("cannot start a thread: {error}")),
        }
    }

    /// The thread is through.
    pub(super) fn finish_reset(&mut self, result: Result<Vec<Kickable>, build::Error>) {
        let Some(reset) = self.reset.take() else {
            return;
        };
        match result {
            Ok(vcpus) => {
                self.watch = Watch::over(&self.parts.ram, &vcpus);
                self.threads.seat(vcpus);
                self.events.push(Event::Reset {
                    guest: reset.guest,
                    reason: reset.reason,
                });
                if self.run_state == RunState::Running {
                    self.run();
                }
            }
            Err(error) => self.cannot_reset(&chain(&error)),
        }
    }

    fn cannot_reset(&mut self, why: &str) {
        eprintln!("ballast: cannot reset the guest: {why}");
        self.shut_down(Outcome::Failed, false, ShutdownReason::HostError);
    }
}
