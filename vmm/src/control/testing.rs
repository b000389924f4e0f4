//! A stand-in for the machine, with real memory, a real balloon and no KVM.

use std::sync::Arc;

use devices::fault::Faults;
use devices::virtio::balloon::{Balloon, BalloonHandle, BalloonSpec};
use memory::backend::{BackendKind, BackendSpec, MergeRequest};
use memory::ram::{Observed, OpenBackend, Ram};
use memory::size::ByteSize;

use super::block_report::Disk;
use super::daemon_report::Daemon;
use super::event::{Event, ShutdownReason};
use super::inventory::Item;
use super::target::Target;
use crate::cli::memory_options::ObjectArg;
use crate::config::BackendDefaults;
use crate::machine::{self, VcpuInfo, VcpuPlace};
use crate::objects::{self, Objects};
use crate::run_state::RunState;
use crate::sampler::{Sample, Sampled};

/// A thread id above all that Linux gives (`PID_MAX_LIMIT` is 2^22).
pub(super) const NOBODY: i32 = 0x4000_0000;

#[derive(Debug)]
pub(super) struct Fake {
    pub(super) state: RunState,
    pub(super) name: Option<String>,
    pub(super) ram: Ram,
    pub(super) objects: Objects,
    pub(super) balloon: Option<BalloonHandle>,
    /// The half that a driver sees.
    pub(super) device: Balloon,
    pub(super) disks: Vec<Disk>,
    pub(super) daemons: Vec<Daemon>,
    pub(super) items: Vec<Item>,
    pub(super) faults: Faults,
    pub(super) vcpus: Vec<VcpuInfo>,
    pub(super) events: Vec<Event>,
    /// Makes `stop` fail.
    pub(super) stuck: bool,
    /// The host takes its time to tell what it holds.
    pub(super) slow: bool,
    pub(super) sampled: Option<Sampled>,
    /// Makes `cont` need force.
    pub(super) data_lost: bool,
}

impl Fake {
    fn observed(&self) -> Vec<Observed> {
        self.objects
            .backends()
            .iter()
            .map(OpenBackend::observed)
            .collect()
    }

    /// The host tells what it holds.
    pub(super) fn read_sample(&mut self) -> Arc<Sample> {
        let sample = Arc::new(Sample::take(&self.ram, &self.observed(), self.balloon.as_ref()).unwrap());
        self.sampled = Some(Ok(Arc::clone(&sample)));
        sample
    }
}

impl Target for Fake {
    fn run_state(&self) -> RunState {
        self.state
    }

    fn stop(&mut self) -> Result<(), machine::Error> {
        if self.stuck {
            return Err(machine::Error::StopTimeout);
        }
        self.state = RunState::Paused;
        self.events.push(Event::Stop);
        Ok(())
    }

    fn cont(&mut self, force: bool) -> Result<(), machine::Error> {
        if self.data_lost && !force {
            return Err(machine::Error::DataLost);
        }
        self.state = RunState::Running;
        self.events.push(Event::Resume);
        Ok(())
    }

    fn system_powerdown(&mut self) -> Result<(), machine::Error> {
        self.events.push(Event::Powerdown);
        if self.stuck {
            return Err(machine::Error::PowerButton(std::io::Error::other("broken")));
        }
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
        self.name.as_deref()
    }

    fn vcpus(&self) -> &[VcpuInfo] {
        &self.vcpus
    }

    fn ram(&self) -> &Ram {
        &self.ram
    }

    fn sample_ready(&mut self) -> bool {
        if !self.slow {
            self.read_sample();
        }
        matches!(&self.sampled, Some(Ok(sample)) if sample.knows(self.objects.backends()))
    }

    fn sample(&self) -> Sampled {
        let read = || match self.slow {
            true => Err("never read".to_owned()),
            false => Ok(Arc::new(
                Sample::take(&self.ram, &self.observed(), self.balloon.as_ref()).unwrap(),
            )),
        };
        self.sampled.clone().unwrap_or_else(read)
    }

    fn objects(&self) -> &Objects {
        &self.objects
    }

    fn add_object(&mut self, object: ObjectArg) -> Result<(), objects::Error> {
        self.objects.add(object, &self.ram)
    }

    fn remove_object(&mut self, id: &str) -> Result<(), objects::Error> {
        self.objects.remove(id, &self.ram)
    }

    fn balloon(&self) -> Option<&BalloonHandle> {
        self.balloon.as_ref()
    }

    fn disks(&self) -> &[Disk] {
        &self.disks
    }

    fn daemons(&self) -> &[Daemon] {
        &self.daemons
    }

    fn items(&self) -> &[Item] {
        &self.items
    }

    fn faults(&self) -> &Faults {
        &self.faults
    }

    fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}

/// A running machine of 64 MiB with a balloon, whose floor is 4 MiB, and two vCPUs.
pub(super) fn fake() -> Fake {
    let mut spec = BackendSpec::new("ram", BackendKind::Ram, ByteSize::mib(64));
    spec.merge = MergeRequest::Default(false);
    let ram = Ram::open(vec![spec], &()).unwrap();
    let spec = BalloonSpec {
        min: ByteSize::mib(4),
        ..BalloonSpec::new("balloon0")
    };
    let (balloon, device) = Balloon::new(spec, ram.clone(), Box::new(|_| ())).unwrap();
    Fake {
        state: RunState::Running,
        name: Some("web".to_owned()),
        ram,
        objects: Objects::new(BackendDefaults::default(), Arc::new(|_| ())),
        balloon: Some(balloon),
        device,
        disks: Vec::new(),
        daemons: Vec::new(),
        items: Vec::new(),
        faults: Faults::new(),
        vcpus: vec![
            VcpuInfo {
                index: 0,
                thread_id: NOBODY,
                place: VcpuPlace::default(),
            },
            VcpuInfo {
                index: 1,
                thread_id: NOBODY,
                place: VcpuPlace {
                    core: 1,
                    ..VcpuPlace::default()
                },
            },
        ],
        events: Vec::new(),
        stuck: false,
        data_lost: false,
        slow: false,
        sampled: None,
    }
}
