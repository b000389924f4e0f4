//! What a machine does about memory that is missing, lost or broken.

use std::time::Duration;

use memory::ram::OpenBackend;
use memory::range::GuestRange;
use memory::size::PageSize;
use vm_memory::GuestAddress;

use super::{Machine, Outcome};
use crate::control::event::{Event, ShutdownReason};
use crate::host::bus_error::{BusError, BusErrors, Kind};
use crate::run_state::RunState;
use crate::starvation::broken::{Action, BrokenMemory};
use crate::starvation::watch::{self, Finding, Watch};
use crate::starvation::{Starvation, Witness};

/// What the next `cont`, or a reset, has to get over.
#[derive(Debug, Default)]
pub(super) struct Trouble {
    /// Data of the guest is gone.
    data_lost: bool,
    /// Broken pages of the guest.
    broken: Vec<GuestRange>,
    /// Those for which a thread waits.
    waited_for: Vec<GuestRange>,
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
            (Kind::Missing, Some(address)) => {
                // A device that waits holds the reset up.
                let witness = if self.is_resetting() {
                    Witness::Reset
                } else {
                    Witness::Device
                };
                self.starve(Starvation::new(witness, Some(address)));
            }
            (Kind::Broken, Some(address)) => {
                self.tell_broken(&BrokenMemory::touched_by_device(address));
                let page = self.page_at(address);
                self.trouble.waited_for.push(page);
                self.starve(Starvation::broken(address));
            }
            (Kind::FoundBroken, Some(address)) => self.tell_broken(&BrokenMemory::found(address)),
            // A thread only waits for guest memory.
            (_, None) => self.tell_broken(&BrokenMemory::ours(error.address)),
        }
    }

    /// A vCPU touched a broken page. A guest that cannot be told is reset.
    pub(super) fn broken_memory(&mut self, broken: &BrokenMemory) {
        self.tell_broken(broken);
        if broken.action() == Action::Reset {
            self.guest_reset();
        }
    }

    fn tell_broken(&mut self, broken: &BrokenMemory) {
        let address = broken.address();
        if let Some(page) = address.map(|address| self.page_at(address))
            && !self.trouble.broken.contains(&page)
        {
            self.trouble.broken.push(page);
        }
        let region = address.and_then(|address| self.parts.ram.region_at(address));
        let backend = region.and_then(|region| self.parts.ram.backends().get(region.backend()));
        let report = broken.report(backend);
        eprintln!("ballast: {report}");
        self.events.push(Event::MemoryFailure(report));
    }

    /// The page of the host behind a guest address.
    fn page_at(&self, address: GuestAddress) -> GuestRange {
        let page = self.parts.ram.page_size_at(address).unwrap_or(PageSize::BASE);
        GuestRange::new(GuestAddress(page.floor(address.0)), page.bytes())
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
        let backends = self.parts.ram.backends();
        if backends.iter().any(OpenBackend::has_lost_data) {
            self.starve(Starvation::new(Witness::Nobody, None));
        } else if let Some(vcpu) = stuck
            && backends.iter().any(|backend| backend.lack().is_some())
        {
            self.starve(Starvation::new(Witness::Vcpu(vcpu), None));
        }
    }

    /// Stops, tells what is missing, and waits for `cont`; where nobody could say that, ends.
    pub(super) fn starve(&mut self, starvation: Starvation) {
        let from = self.run_state;
        // What is told already is not told by each vCPU that meets it, but a reset has let go of what there was.
        let news = from.may_become(RunState::MemoryStarved)
            || (from == RunState::MemoryStarved && self.is_resetting());
        if !news {
            return;
        }
        if !self.pause() {
            tracing::warn!("a vCPU did not stop in time");
        }
        let diagnosis = starvation.diagnose(&self.parts.ram);
        self.run_state = RunState::MemoryStarved;
        self.trouble.data_lost |= diagnosis.data_lost;
        if from == RunState::Running {
            self.events.push(Event::Stop);
        }
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

    /// Lets everything that waits for memory try again. What is lost has been accepted: broken pages that somebody waits for
    /// are replaced.
    pub(super) fn get_over_trouble(&mut self) {
        if std::mem::take(&mut self.trouble.data_lost) {
            let backends = self.parts.ram.backends();
            backends.iter().for_each(OpenBackend::accept_loss);
            let pages = std::mem::take(&mut self.trouble.waited_for);
            self.parts.ram.replace(&pages);
        }
        BusErrors::retry();
    }

    /// Nobody needs the guest's data any more: returns the broken pages, which are to be replaced.
    pub(super) fn give_up_memory(&mut self) -> Vec<GuestRange> {
        self.trouble.data_lost = true;
        self.get_over_trouble();
        std::mem::take(&mut self.trouble.broken)
    }
}
