//! The end of a start: memory is filled, the kernel loaded, the vCPUs are made.
//!
//! Filling may take minutes. Then all this is done by a thread, while the main loop serves clients: they see a machine in
//! `prelaunch`, how far the preallocation is, and may stop that or end Ballast.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use memory::ram::{Population, RamError};

use super::reset::wait_for_end;
use super::{Machine, Outcome};
use crate::build::{self, Error};
use crate::control::event::ShutdownReason;
use crate::host::bus_error::BusErrors;
use crate::news::News;
use crate::progress::Progress;
use crate::stage::Stage;
use crate::starvation::watch::Watch;
use crate::told::chain;
use crate::vcpu_thread::Kickable;

/// A start that is under way.
#[derive(Debug)]
pub(super) struct Start {
    population: Arc<Population>,
    thread: JoinHandle<()>,
    /// Whether the vCPUs run when it is over.
    pub(super) then_run: bool,
    verbose: bool,
    /// A signal came meanwhile.
    aborted: bool,
}

impl Drop for Start {
    /// As with a reset.
    fn drop(&mut self) {
        self.population.abort();
        wait_for_end(&self.thread);
    }
}

impl Machine {
    /// Does what is left, or has it done where it takes long: [`News::Started`] comes then. `verbose`: what took effect is told.
    pub(super) fn begin_start(&mut self, verbose: bool) -> Result<(), Error> {
        let backends = self.ram().backends().iter().chain(self.objects.backends());
        let population = Arc::new(Population::new(backends, Some(self.objects.listener())));
        let (filling, power_on) = (Arc::clone(&population), Arc::clone(&self.parts.power_on));
        let freezer = self.freezer;
        let finish = move || {
            filling.run(&Progress::new(freezer))?;
            let vcpus = power_on.first()?;
            freezer.reached(Stage::Loaded);
            Ok(vcpus)
        };
        if population.is_empty() {
            let vcpus = finish()?;
            return self.ready(vcpus, verbose);
        }
        let news = self.news.clone();
        let thread = thread::Builder::new().name("start".to_owned());
        let thread = thread.spawn(move || {
            let result = finish();
            // Who is told shall be the last who holds memory.
            drop(finish);
            news.send(News::Started(result));
        });
        self.start = Some(Start {
            population,
            thread: thread.map_err(Error::Threads)?,
            then_run: false,
            verbose,
            aborted: false,
        });
        Ok(())
    }

    /// Whether the machine is still on its way: it has no vCPUs, and nobody may touch its memory.
    pub(super) fn is_starting(&self) -> bool {
        self.start.is_some()
    }

    /// Whether it is there, and [`Machine::started`] is due.
    pub fn has_arrived(&self) -> bool {
        !self.is_starting() && !self.started
    }

    /// The thread is through.
    pub(super) fn finish_start(&mut self, result: Result<Vec<Kickable>, Error>) {
        let Some(start) = self.start.take() else {
            return;
        };
        if self.outcome.is_some() {
            return;
        }
        if let Err(error) = result.and_then(|vcpus| self.ready(vcpus, start.verbose)) {
            return self.cannot_start(&error);
        }
        if start.aborted {
            return self.end("a signal", ShutdownReason::HostSignal);
        }
        if start.then_run
            && let Err(error) = self.cont(false)
        {
            tracing::warn!("the guest does not run: {error}");
        }
    }

    /// A signal ends a start; false: there is none. Where memory is all there, the signal waits for the end of the start.
    pub(super) fn abort_start(&mut self) -> bool {
        let Some(start) = &mut self.start else {
            return false;
        };
        start.aborted = true;
        start.population.abort();
        true
    }

    /// Memory is as it should be, and the vCPUs may run.
    fn ready(&mut self, vcpus: Vec<Kickable>, verbose: bool) -> Result<(), Error> {
        if verbose {
            let backends = self.ram().backends().iter().chain(self.objects.backends());
            backends.for_each(|backend| eprintln!("ballast: {}", backend.summary()));
        }
        BusErrors::guard(&self.parts.ram);
        self.watch = Watch::over(&self.parts.ram, &vcpus);
        self.threads.seat(vcpus);
        let filling = self.parts.ram.fill_beside_guest(self.objects.listener());
        filling.and_then(|()| self.objects.fill()).map_err(Error::Threads)
    }

    fn cannot_start(&mut self, error: &build::Error) {
        eprintln!("ballast: {}", chain(error));
        let by_signal = matches!(error, Error::Memory(RamError::Cancelled { .. }));
        let reason = if by_signal {
            ShutdownReason::HostSignal
        } else {
            ShutdownReason::HostError
        };
        self.shut_down(Outcome::NotStarted, false, reason);
    }
}
