//! A stand-in for the machine that QMP is about.

use std::sync::Arc;

use devices::fault::Faults;
use devices::testing::anonymous_ram;
use devices::virtio::balloon::{Balloon, BalloonHandle, BalloonSpec};
use memory::backend::BackendKind;
use memory::ram::Ram;
use memory::size::ByteSize;
use vmm::cli::memory_options::ObjectArg;
use vmm::config::BackendDefaults;
use vmm::control::block_report::Disk;
use vmm::control::daemon_report::Daemon;
use vmm::control::event::{Event, ShutdownReason};
use vmm::control::inventory::Item;
use vmm::control::target::Target;
use vmm::machine::{Error, VcpuInfo, VcpuPlace};
use vmm::objects::{self, Objects};
use vmm::run_state::RunState;
use vmm::sampler::{Sample, Sampled};

/// A machine with real memory, a balloon without a driver, and no KVM.
#[derive(Debug)]
pub struct Machine {
    state: RunState,
    ram: Ram,
    balloon: BalloonHandle,
    objects: Objects,
    faults: Faults,
    vcpus: [VcpuInfo; 1],
    events: Vec<Event>,
    sampled: Option<Sampled>,
    /// How many events there were.
    pub told: usize,
}

impl Machine {
    /// A running machine of 16 MiB.
    ///
    /// # Panics
    ///
    /// When the host gives no memory.
    #[expect(clippy::new_without_default, reason = "it takes memory")]
    pub fn new() -> Machine {
        let ram = anonymous_ram(16);
        let spec = BalloonSpec::new("balloon0");
        let (balloon, _) = Balloon::new(spec, ram.clone(), Box::new(|_| ())).expect("a balloon");
        Machine {
            state: RunState::Running,
            ram,
            balloon,
            objects: no_objects(),
            faults: Faults::new(),
            vcpus: [VcpuInfo {
                index: 0,
                thread_id: 1,
                place: VcpuPlace::default(),
            }],
            sampled: None,
            events: Vec::new(),
            told: 0,
        }
    }

    /// As it was at first.
    ///
    /// # Panics
    ///
    /// When the balloon refuses all of RAM as its target.
    pub fn rewind(&mut self) {
        self.state = RunState::Running;
        self.events.clear();
        self.objects = no_objects();
        self.told = 0;
        self.balloon.set_target(self.ram.size()).expect("all of RAM");
    }
}

fn no_objects() -> Objects {
    Objects::new(BackendDefaults::default(), Arc::new(|_| ()))
}

/// The most that one object may have, and how many there may be.
const OBJECT: ByteSize = ByteSize::mib(4);
const OBJECTS: usize = 4;

impl Target for Machine {
    fn run_state(&self) -> RunState {
        self.state
    }

    fn stop(&mut self) -> Result<(), Error> {
        if self.state == RunState::Shutdown {
            return Err(Error::StopTimeout);
        }
        self.state = RunState::Paused;
        self.events.push(Event::Stop);
        Ok(())
    }

    fn cont(&mut self, _force: bool) -> Result<(), Error> {
        if self.state == RunState::Shutdown {
            return Err(Error::Transition {
                from: self.state,
                to: RunState::Running,
            });
        }
        self.state = RunState::Running;
        self.events.push(Event::Resume);
        Ok(())
    }

    fn system_powerdown(&mut self) -> Result<(), Error> {
        self.events.push(Event::Powerdown);
        Ok(())
    }

    fn system_reset(&mut self) {
        self.events.push(Event::Reset {
            guest: false,
            reason: ShutdownReason::HostQmpSystemReset,
        });
    }

    fn quit(&mut self) {
        self.state = RunState::Shutdown;
        self.events.push(Event::Shutdown {
            guest: false,
            reason: ShutdownReason::HostQmpQuit,
        });
    }

    fn name(&self) -> Option<&str> {
        Some("fuzz")
    }

    fn vcpus(&self) -> &[VcpuInfo] {
        &self.vcpus
    }

    fn ram(&self) -> &Ram {
        &self.ram
    }

    /// Read at once, by the same thread.
    fn sample_ready(&mut self) -> bool {
        let sample = Sample::take(&self.ram, &[], Some(&self.balloon));
        self.sampled = Some(sample.map(Arc::new).map_err(|error| error.to_string()));
        true
    }

    fn sample(&self) -> Sampled {
        self.sampled
            .clone()
            .unwrap_or_else(|| Err("never read".to_owned()))
    }

    fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Only memory, and little of it: no file of the host is for a fuzzer to open.
    fn add_object(&mut self, object: ObjectArg) -> Result<(), objects::Error> {
        let is_small = object.size <= OBJECT && self.objects.backends().len() < OBJECTS;
        if !is_small || matches!(object.kind, BackendKind::File(_)) {
            return Err(objects::Error::Unknown(object.id));
        }
        self.objects.add(object, &self.ram)
    }

    fn remove_object(&mut self, id: &str) -> Result<(), objects::Error> {
        self.objects.remove(id, &self.ram)
    }

    fn balloon(&self) -> Option<&BalloonHandle> {
        Some(&self.balloon)
    }

    fn disks(&self) -> &[Disk] {
        &[]
    }

    fn daemons(&self) -> &[Daemon] {
        &[]
    }

    fn items(&self) -> &[Item] {
        &[]
    }

    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn take_events(&mut self) -> Vec<Event> {
        self.told += self.events.len();
        std::mem::take(&mut self.events)
    }
}
