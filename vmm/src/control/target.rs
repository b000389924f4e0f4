//! What commands act upon: the machine, or a stand-in in tests.

use devices::fault::Faults;
use devices::virtio::balloon::BalloonHandle;
use memory::ram::{OpenBackend, Ram};

use super::block_report::Disk;
use super::daemon_report::Daemon;
use super::event::Event;
use super::inventory::Item;
use crate::cli::memory_options::ObjectArg;
use crate::machine::{self, Machine, VcpuInfo};
use crate::objects::{self, Objects};
use crate::run_state::RunState;
use crate::sampler::Sampled;

/// The user's view of a machine. Nothing here waits for the guest, and nothing reads or writes its memory.
pub trait Target {
    /// What it does now.
    fn run_state(&self) -> RunState;
    /// Stops the vCPUs.
    fn stop(&mut self) -> Result<(), machine::Error>;
    /// Lets them run; with `force` also when data of the guest is lost.
    fn cont(&mut self, force: bool) -> Result<(), machine::Error>;
    /// Presses the power button.
    fn system_powerdown(&mut self) -> Result<(), machine::Error>;
    /// Resets the machine, or begins to.
    fn system_reset(&mut self);
    /// Ends the machine.
    fn quit(&mut self);
    /// `-name`.
    fn name(&self) -> Option<&str>;
    /// The vCPUs, by index.
    fn vcpus(&self) -> &[VcpuInfo];
    /// The guest's memory, for what is known about it.
    fn ram(&self) -> &Ram;
    /// Whether [`Target::sample`] is recent. Where not, it is read from here on by somebody else, and
    /// [`super::Control::sampled`] is to be called when that is done.
    fn sample_ready(&mut self) -> bool;
    /// What the host held for the guest's memory when it was last read, or why that is not known.
    fn sample(&self) -> Sampled;
    /// Memory backends that are not the guest's.
    fn objects(&self) -> &Objects;
    /// Adds one.
    fn add_object(&mut self, object: ObjectArg) -> Result<(), objects::Error>;
    /// Takes one away.
    fn remove_object(&mut self, id: &str) -> Result<(), objects::Error>;
    /// The balloon, where there is one.
    fn balloon(&self) -> Option<&BalloonHandle>;
    /// Its disks.
    fn disks(&self) -> &[Disk];
    /// The daemons that serve its devices.
    fn daemons(&self) -> &[Daemon];
    /// The other devices, and their objects.
    fn items(&self) -> &[Item];
    /// What the guest did wrong so far.
    fn faults(&self) -> &Faults;
    /// Events since the last call, oldest first.
    fn take_events(&mut self) -> Vec<Event>;
}

/// All memory backends: the guest's, then those that are not.
pub(super) fn backends(target: &dyn Target) -> impl Iterator<Item = &OpenBackend> {
    target.ram().backends().iter().chain(target.objects().backends())
}

impl Target for Machine {
    fn run_state(&self) -> RunState {
        Machine::run_state(self)
    }

    fn stop(&mut self) -> Result<(), machine::Error> {
        Machine::stop(self)
    }

    fn cont(&mut self, force: bool) -> Result<(), machine::Error> {
        Machine::cont(self, force)
    }

    fn system_powerdown(&mut self) -> Result<(), machine::Error> {
        Machine::system_powerdown(self)
    }

    fn system_reset(&mut self) {
        Machine::system_reset(self);
    }

    fn quit(&mut self) {
        Machine::quit(self);
    }

    fn name(&self) -> Option<&str> {
        Machine::name(self)
    }

    fn vcpus(&self) -> &[VcpuInfo] {
        Machine::vcpus(self)
    }

    fn ram(&self) -> &Ram {
        Machine::ram(self)
    }

    fn sample_ready(&mut self) -> bool {
        Machine::sample_ready(self)
    }

    fn sample(&self) -> Sampled {
        Machine::sample(self)
    }

    fn objects(&self) -> &Objects {
        Machine::objects(self)
    }

    fn add_object(&mut self, object: ObjectArg) -> Result<(), objects::Error> {
        let (objects, ram) = self.objects_mut();
        objects.add(object, ram)
    }

    fn remove_object(&mut self, id: &str) -> Result<(), objects::Error> {
        let (objects, ram) = self.objects_mut();
        objects.remove(id, ram)
    }

    fn balloon(&self) -> Option<&BalloonHandle> {
        Machine::balloon(self)
    }

    fn disks(&self) -> &[Disk] {
        Machine::disks(self)
    }

    fn daemons(&self) -> &[Daemon] {
        Machine::daemons(self)
    }

    fn items(&self) -> &[Item] {
        Machine::items(self)
    }

    fn faults(&self) -> &Faults {
        Machine::faults(self)
    }

    fn take_events(&mut self) -> Vec<Event> {
        Machine::take_events(self)
    }
}
