//! What a machine does about memory that is missing or lost.

use std::time::Duration;

use memory::backend::{BackendKind, Lack};
use memory::ram::OpenBackend;

use super::{Machine, Outcome};
use crate::control::event::{Event, ShutdownReason};
use crate::host::bus_error::{BusError, BusErrors, Kind};
use crate::run_state::RunState;
use crate::starvation::watch::{self, Finding, Watch};
use crate::starvation::{Starvation, Witness};

/// What the next `cont` has to get over.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Data of the guest is gone.
    data_lost: bool,
}

impl Trouble {
    /// Whether data of the guest is gone, and nobody has accepted it yet.
    pub(super) fn data_lost(&self) -> bool {
        self.data_lost
    }
}

impl Machine {
    /// A thread of ours waits for a page, or the kernel found one that is broken.
    pub fn bus_error(&mut self, error: BusError) {
        let address = self.parts.ram.locate(error.address).map(|(address, _)| address);
        match (error.kind, address) {
            (Kind::Missing | Kind::Broken, Some(address)) => {
                self.starve(Starvation::new(Witness::Device, Some(address)));
            }
            (Kind::Missing | Kind::Broken, None) | (Kind::FoundBroken, _) => {
                tracing::warn!("the page at host address {:#x} is broken", error.address);
            }
        }
    }

    /// How soon [`Machine::look_for_starvation`] wants to be called again, if at all.
    pub fn watch_interval(&self) -> Option<Duration> {
        (self.run_state == RunState::Running && self.watch.is_some()).then_some(watch::INTERVAL)
    }

    /// Stops the machine when a vCPU tries for ever to get a page that the host does not have, or when data of the guest is
    /// found to be lost.
    pub fn look_for_starvation(&mut self) {
        if self.run_state != RunState::Running {
            return;
        }
        let stuck = match self.watch.as_mut().map_or(Finding::TooEarly, Watch::look) {
            Finding::TooEarly => return,
            Finding::Fine => None,
            Finding::Stuck(vcpu) => Some(vcpu),
        };
        let backends = self.parts.ram.backends().iter();
        let watched = backends.filter(|backend| stuck.is_some() || is_file(backend));
        let lacks: Vec<Lack> = watched.filter_map(OpenBackend::lack).collect();
        if lacks.iter().any(Lack::is_loss) {
            self.starve(Starvation::new(Witness::Nobody, None));
        } else if let Some(vcpu) = stuck.filter(|_| !lacks.is_empty()) {
            self.starve(Starvation::new(Witness::Vcpu(vcpu), None));
        }
    }

    /// Stops, tells what is missing, and waits for `cont`; where nobody could say that, ends.
    pub(super) fn starve(&mut self, starvation: Starvation) {
        if !self.run_state.may_become(RunState::MemoryStarved) {
            return;
        }
        if !self.pause() {
            tracing::warn!("a vCPU did not stop in time");
        }
        let diagnosis = starvation.diagnose(&self.parts.ram);
        self.run_state = RunState::MemoryStarved;
        self.trouble.data_lost |= diagnosis.data_lost;
        self.events.push(Event::Stop);
        self.events.push(Event::MemoryStarved(diagnosis.clone()));
        if !self.attended {
            eprintln!("ballast: {diagnosis}; without -qmp or -monitor nobody can let the guest go on");
            return self.shut_down(Outcome::Failed, false, ShutdownReason::HostError);
        }
        let remedy = if diagnosis.data_lost {
            "'cont' needs force=true"
        } else {
            "'cont' tries again"
        };
        eprintln!("ballast: {diagnosis}; the guest is stopped, {remedy}");
    }

    /// Lets everything that waits for memory try again. What is lost has been accepted.
    pub(super) fn get_over_trouble(&mut self) {
        if std::mem::take(&mut self.trouble.data_lost) {
            self.parts
                .ram
                .backends()
                .iter()
                .for_each(OpenBackend::accept_loss);
        }
        BusErrors::retry();
    }
}

fn is_file(backend: &OpenBackend) -> bool {
    matches!(backend.spec().kind, BackendKind::File(_))
}
