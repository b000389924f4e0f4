//! The machine: everything between a [`Config`] and a running guest, and what a user may do to it.
//!
//! The main thread owns it. Nothing here waits for the guest, except that stopping waits until the vCPUs are out of it.

use std::io;
use std::sync::Arc;

use devices::fault::Faults;
use devices::typed::InputLine;
use devices::virtio::balloon::{BalloonHandle, BalloonNews};
use memory::ram::{PreallocListener, PreallocReport, PreallocState, Ram};
use memory::size::ByteSize;

use crate::build::{self, Parts};
use crate::cli::lifecycle::PanicAction;
use crate::config::Config;
use crate::control::block_report::Disk;
use crate::control::daemon_report::Daemon;
use crate::control::event::{Event, ShutdownReason};
use crate::control::inventory::{self, Item};
use crate::gate::Hurry;
use crate::news::{News, NewsSender};
use crate::objects::Objects;
use crate::pinning;
use crate::run_state::RunState;
use crate::sampler::{Sampled, Sampler};
use crate::stage::{Freezer, Stage};
use crate::starvation::watch::Watch;
use crate::vcpu_thread::VcpuThreads;
use reset::Reset;

mod end;
mod panic;
mod reset;
mod start;
mod trouble;

use start::Start;
use trouble::Trouble;

/// Why a machine could not do what was asked.
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
    /// Part of the guest's memory is lost, and nobody said that this is known.
    #[error(
        "data of the guest is lost: it may fail or write wrong data; to let it go on nevertheless: 'cont' with force=true"
    )]
    DataLost,
    /// A vCPU did not leave the guest in time.
    #[error("a vCPU did not stop in time")]
    StopTimeout,
    /// The power button could not be pressed.
    #[error("cannot press the power button")]
    PowerButton(#[source] io::Error),
}

/// A vCPU as QMP shows it.
#[derive(Clone, Copy, Debug)]
pub struct VcpuInfo {
    /// Index, from 0.
    pub index: u8,
    /// Kernel thread id.
    pub thread_id: i32,
    /// Where it is in the guest.
    pub place: VcpuPlace,
}

/// Where a vCPU is in the guest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VcpuPlace {
    /// Its socket.
    pub socket: u8,
    /// Its core's number in the socket.
    pub core: u8,
    /// Its number in the core.
    pub thread: u8,
    /// Its NUMA node, where the guest has several.
    pub node: Option<u32>,
}

/// How a machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The guest or a user ended it.
    Ended,
    /// It could not go on.
    Failed,
    /// It never got so far that its guest could run.
    NotStarted,
}

/// A machine, on its way or ready.
#[derive(Debug)]
pub struct Machine {
    name: Option<String>,
    run_state: RunState,
    outcome: Option<Outcome>,
    /// Whether somebody could say `cont`.
    attended: bool,
    /// Dropped first, as the next: it may be about to use the rest.
    start: Option<Start>,
    /// Nothing of the start is undone any more.
    started: bool,
    reset: Option<Reset>,
    /// Whether a reset is one, and not the end.
    reboots: bool,
    on_panic: PanicAction,
    triple_faults: u32,
    /// A signal has had the power button pressed.
    asked_to_end: bool,
    news: NewsSender,
    threads: VcpuThreads,
    parts: Parts,
    objects: Objects,
    /// Where the host can run out of pages while the guest runs.
    watch: Option<Watch>,
    sampler: Sampler,
    items: Vec<Item>,
    trouble: Trouble,
    events: Vec<Event>,
    freezer: Freezer,
}

impl Machine {
    /// Builds the machine of `config` and starts it, which goes on in a thread of its own where memory is to be filled before the
    /// guest runs. Its vCPUs wait; [`Machine::cont`] lets them run.
    pub fn build(config: &Config, news: &NewsSender, freezer: Freezer) -> Result<Machine, build::Error> {
        let hurry = Hurry::default();
        let parts = build::parts(config, &hurry, news, freezer)?;
        let vcpus = config.topology.vcpus();
        let threads = VcpuThreads::spawn(vcpus, |vcpu| config.place(vcpu), hurry, news)
            .map_err(build::Error::Threads)?;
        let pins: Vec<_> = threads
            .infos()
            .iter()
            .filter_map(|info| Some((info, config.host_cpus.get(&info.index)?)))
            .collect();
        pinning::pin(pins).map_err(build::Error::Pinning)?;
        let tell = news.clone();
        let listener: PreallocListener = Arc::new(move |report| tell.send(News::Prealloc(report)));
        let mut machine = Machine {
            objects: Objects::open(&config.objects, config.defaults, listener)?,
            name: config.name.clone(),
            run_state: RunState::Prelaunch,
            outcome: None,
            attended: config.is_attended(),
            start: None,
            started: false,
            reset: None,
            reboots: !config.no_reboot,
            on_panic: config.on_panic,
            triple_faults: 0,
            asked_to_end: false,
            news: news.clone(),
            threads,
            sampler: Sampler::new(parts.ram.clone(), parts.balloon.clone(), news.clone()),
            parts,
            watch: None,
            items: inventory::items(config),
            trouble: Trouble::default(),
            events: Vec::new(),
            freezer,
        };
        machine.objects.backends().iter().for_each(build::report_backend);
        machine.tell_balloon(false);
        machine.begin_start(config.verbose)?;
        Ok(machine)
    }

    /// The start has come to its end, and nothing is undone any more.
    pub fn started(&mut self) {
        self.started = true;
        self.ram().started();
        self.objects.started();
    }

    /// The state now.
    pub fn run_state(&self) -> RunState {
        self.run_state
    }

    /// How the machine ended, once it has.
    pub fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Stops the vCPUs, or has them not run at the end of the start; does nothing when they do not run.
    pub fn stop(&mut self) -> Result<(), Error> {
        if let Some(start) = &mut self.start {
            start.then_run = false;
        }
        if self.run_state != RunState::Running {
            return Ok(());
        }
        let stopped = self.pause();
        for disk in self.disks() {
            if let Err(error) = disk.handle.flush() {
                tracing::warn!("disk '{}' cannot be flushed: {error}", disk.spec.id);
            }
        }
        self.pause_daemons(true);
        self.become_state(RunState::Paused)?;
        self.events.push(Event::Stop);
        if stopped { Ok(()) } else { Err(Error::StopTimeout) }
    }

    /// Lets the vCPUs run; does nothing when they do. After missing memory, everything that met it tries again; where data was
    /// lost only with `force`. Where the start is not over, they run at its end.
    pub fn cont(&mut self, force: bool) -> Result<(), Error> {
        if self.run_state == RunState::Running {
            return Ok(());
        }
        if let Some(start) = &mut self.start {
            start.then_run = true;
            return Ok(());
        }
        let from = self.run_state;
        if self.trouble.data_lost() && !force {
            return Err(Error::DataLost);
        }
        self.become_state(RunState::Running)?;
        self.pause_daemons(false);
        if from == RunState::Prelaunch {
            self.freezer.reached(Stage::Booting);
        }
        if from == RunState::MemoryStarved {
            self.get_over_trouble();
        }
        self.events.push(Event::Resume);
        if !self.is_resetting() {
            self.run();
        }
        Ok(())
    }

    /// Lets the vCPUs into the guest.
    fn run(&mut self) {
        if let Some(watch) = &mut self.watch {
            watch.restart();
        }
        self.threads.resume();
        self.tell_balloon(true);
    }

    /// Stops the vCPUs; false when one did not stop in time.
    fn pause(&mut self) -> bool {
        self.tell_balloon(false);
        self.threads.pause()
    }

    /// A guest that does not run is not to blame for a balloon that does not move.
    fn tell_balloon(&self, guest_runs: bool) {
        if let Some(balloon) = self.balloon() {
            balloon.set_guest_running(guest_runs);
        }
    }

    /// Takes notice of something that another thread told.
    pub fn hear(&mut self, news: News) {
        if self.is_resetting() && news.is_of_vcpu() {
            return;
        }
        match news {
            News::BrokenMemory(broken) => self.broken_memory(&broken),
            News::GuestReset => self.guest_reset(),
            News::TripleFault { vcpu } => self.triple_fault(vcpu),
            News::GuestPanicked { crash_loaded } => self.guest_panicked(crash_loaded),
            News::Started(result) => self.finish_start(result),
            News::Reset(result) => self.finish_reset(result),
            News::GuestPowerOff => self.shut_down(Outcome::Ended, true, ShutdownReason::GuestShutdown),
            News::Starved(starvation) => self.starve(starvation),
            News::VcpuFailed { vcpu, reason } => {
                eprintln!("ballast: vCPU {vcpu} cannot go on: {reason}");
                // Ends below in any case; only an ended machine refuses, and it cannot fail any more.
                let _ = self.become_state(RunState::InternalError);
                self.shut_down(Outcome::Failed, false, ShutdownReason::HostError);
            }
            News::Balloon(news) => self.hear_of_balloon(news),
            News::Prealloc(report) => self.hear_of_prealloc(report),
            News::Sampled(sampled) => {
                let misplaced = self.sampler.hear(sampled).into_iter();
                self.events.extend(misplaced.map(Event::MemoryMisplaced));
            }
        }
    }

    fn hear_of_prealloc(&mut self, report: PreallocReport) {
        // A start that fails says why itself.
        let fails = self.is_starting() && matches!(report.state, PreallocState::Failed(_));
        if let Some(text) = report.state.trouble().filter(|_| !fails) {
            eprintln!("ballast: warning: {text}");
        }
        self.events.push(Event::PreallocEnded(report));
    }

    fn hear_of_balloon(&mut self, news: BalloonNews) {
        match news {
            BalloonNews::Actual(actual) => self.balloon_moved(actual),
            BalloonNews::Stalled(stall) => self.events.push(Event::BalloonStalled(stall)),
            BalloonNews::Distress(distress) => self.events.push(Event::BalloonDistress(distress)),
            // For those who wait for an answer: see the main loop.
            BalloonNews::StatsUpdated => {}
        }
    }

    fn balloon_moved(&mut self, actual: ByteSize) {
        let target = self.balloon().map_or(actual, BalloonHandle::target);
        let half = (self.parts.ram.size().bytes() / 2).saturating_add(target.bytes() / 2);
        if target < self.parts.ram.size() && actual.bytes() <= half {
            self.freezer.reached(Stage::InflateHalf);
        }
        self.events.push(Event::BalloonChange { actual });
    }

    fn become_state(&mut self, to: RunState) -> Result<(), Error> {
        let from = self.run_state;
        if !from.may_become(to) {
            return Err(Error::Transition { from, to });
        }
        tracing::debug!("run state: {from} -> {to}");
        self.run_state = to;
        Ok(())
    }

    /// `-name`.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The vCPUs, by index.
    pub fn vcpus(&self) -> &[VcpuInfo] {
        self.threads.infos()
    }

    /// The guest's memory; for its sizes and states, never to be read or written here.
    pub fn ram(&self) -> &Ram {
        &self.parts.ram
    }

    /// Whether [`Machine::sample`] is recent. Where not, it is being read, and [`News::Sampled`] comes.
    pub fn sample_ready(&mut self) -> bool {
        self.sampler.is_ready(self.objects.backends())
    }

    /// What the host held for the guest's memory when it was last read.
    pub fn sample(&self) -> Sampled {
        self.sampler.last()
    }

    /// Memory backends that are not the guest's.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// The same, to be changed beside those that are.
    pub fn objects_mut(&mut self) -> (&mut Objects, &Ram) {
        (&mut self.objects, &self.parts.ram)
    }

    /// The balloon, where there is one.
    pub fn balloon(&self) -> Option<&BalloonHandle> {
        self.parts.balloon.as_ref()
    }

    /// The daemons that serve its devices.
    pub fn daemons(&self) -> &[Daemon] {
        &self.parts.daemons
    }

    /// Has daemons let go of the guest's memory, or serve their devices again.
    fn pause_daemons(&self, paused: bool) {
        for daemon in self.daemons() {
            if let Err(error) = daemon.handle.pause(paused) {
                tracing::warn!(
                    "the daemon of '{}' cannot be told to stop or go on: {error}",
                    daemon.device
                );
            }
        }
    }

    /// Its disks.
    pub fn disks(&self) -> &[Disk] {
        &self.parts.disks
    }

    /// The other devices, and their objects.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// What the guest did wrong so far.
    pub fn faults(&self) -> &Faults {
        &self.parts.faults
    }

    /// What of the guest gets that which is typed.
    pub fn typing(&self) -> &dyn InputLine {
        &*self.parts.typing
    }

    /// Events that happened since the last call, oldest first.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }
}
