//! The machine: everything between a [`Config`] and a running guest, and what a user may do to it.

use std::sync::Arc;

use devices::fault::Faults;
use devices::virtio::balloon::BalloonHandle;
use memory::ram::Ram;

use crate::control::event::Event;
use crate::run_state::RunState;

/// Why a machine could not be built or could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The state of the machine does not allow it.
    #[error("the machine is {from} and cannot become {to}")]
    Transition {
        /// The state it is in.
        from: RunState,
        /// The state that was asked for.
        to: RunState,
    },
    /// The power button could not be pressed.
    #[error("cannot press the power button")]
    PowerButton(#[source] std::io::Error),
}

/// A vCPU as QMP shows it.
#[derive(Clone, Copy, Debug)]
pub struct VcpuInfo {
    /// Index, from 0.
    pub index: u8,
    /// Kernel thread id.
    pub thread_id: i32,
}

/// A machine, built and ready.
#[derive(Debug)]
pub struct Machine {
    name: Option<String>,
    run_state: RunState,
    ram: Ram,
    balloon: Option<BalloonHandle>,
    faults: Arc<Faults>,
    vcpus: Vec<VcpuInfo>,
    events: Vec<Event>,
}

impl Machine {
    /// The state now.
    pub fn run_state(&self) -> RunState {
        self.run_state
    }

    /// Stops the vCPUs; does nothing when they do not run.
    pub fn stop(&mut self) -> Result<(), Error> {
        todo!()
    }

    /// Lets the vCPUs run; does nothing when they do.
    pub fn cont(&mut self) -> Result<(), Error> {
        todo!()
    }

    /// Presses the power button.
    pub fn system_powerdown(&mut self) -> Result<(), Error> {
        todo!()
    }

    /// Ends the machine because a QMP client said so.
    pub fn quit(&mut self) {
        todo!()
    }

    /// `-name`.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The vCPUs, by index.
    pub fn vcpus(&self) -> &[VcpuInfo] {
        &self.vcpus
    }

    /// The guest's memory; for its sizes and states, never to be read or written here.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// The balloon, where there is one.
    pub fn balloon(&self) -> Option<&BalloonHandle> {
        self.balloon.as_ref()
    }

    /// What the guest did wrong so far.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Events that happened since the last call, oldest first.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}
