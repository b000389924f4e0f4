//! The thread that owns a device and its rings.
//!
//! It waits for bells: orders of the transport, written configuration, the device's own event, its source, and kicks; and no longer
//! than the device wants. One turn of the loop takes the orders, then what the device's user wants, then serves the queues;
//! then it publishes what changed.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use memory::ram::Ram;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::EventFd;

use crate::fault::GuestFault;

use super::VirtioDevice;
use super::common::QueueRegisters;
use super::outside::OutsideRing;
use super::pci::shared::{Orders, Shared};
use super::queue::{QueueError, VirtQueue};

/// Epoll tokens; a queue's is its index.
const ORDERS: u64 = u64::MAX;
const DEVICE: u64 = u64::MAX - 1;
const SOURCE: u64 = u64::MAX - 2;
const CONFIG: u64 = u64::MAX - 3;

/// How long nobody is woken for written configuration after it was looked at. Drivers write it as often as they kick, and a kick
/// has the worker look at it too.
const CONFIG_PAUSE: Duration = Duration::from_millis(10);

/// Rings once, until it is watched again.
const ONCE: EventSet = EventSet::IN.union(EventSet::ONE_SHOT);

/// Events taken from one wait; what does not fit comes with the next.
const EVENTS: usize = 16;

pub(super) struct Worker {
    device: Box<dyn VirtioDevice>,
    ram: Ram,
    shared: Arc<Shared>,
    epoll: Epoll,
    /// Empty unless the driver is ready and nothing is broken.
    queues: Vec<VirtQueue>,
    /// The driver's configuration as last seen; kept for its capacity.
    config: Vec<u8>,
    /// Until then nobody is woken for written configuration.
    config_pause: Option<Instant>,
    /// Queues of a device outside whose interrupts are due; kept for its capacity.
    interrupts: Vec<u16>,
}

impl Worker {
    pub(super) fn new(
        mut device: Box<dyn VirtioDevice>,
        ram: Ram,
        shared: Arc<Shared>,
    ) -> io::Result<Worker> {
        let epoll = Epoll::new()?;
        let watch = |bell: RawFd, events, token| {
            epoll.ctl(ControlOperation::Add, bell, EpollEvent::new(events, token))
        };
        watch(shared.bell().as_raw_fd(), EventSet::IN, ORDERS)?;
        watch(shared.config_bell().as_raw_fd(), ONCE, CONFIG)?;
        watch(device.event().as_raw_fd(), EventSet::IN, DEVICE)?;
        let news = EventSet::IN | EventSet::EDGE_TRIGGERED;
        if let Some(source) = device.source() {
            watch(source.as_raw_fd(), news, SOURCE)?;
        }
        if let Some(outside) = device.outside() {
            watch(outside.source(), news, SOURCE)?;
        } else {
            for (token, kick) in (0..).zip(shared.kicks()) {
                watch(kick.as_raw_fd(), EventSet::IN, token)?;
            }
        }
        Ok(Worker {
            device,
            ram,
            shared,
            epoll,
            queues: Vec::new(),
            config: Vec::new(),
            config_pause: None,
            interrupts: Vec::new(),
        })
    }

    /// Runs until the transport says stop.
    pub(super) fn run(mut self) {
        let mut events = [EpollEvent::default(); EVENTS];
        loop {
            let count = match self.epoll.wait(self.patience(), &mut events) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!("device worker cannot wait: {error}");
                    break;
                }
            };
            let mut woken = false;
            for event in &events[..count] {
                // A bell that cannot be read was not rung: all are non-blocking.
                let _ = match event.data() {
                    ORDERS => self.shared.bell().read(),
                    CONFIG => {
                        self.config_pause = Some(Instant::now() + CONFIG_PAUSE);
                        self.shared.config_bell().read()
                    }
                    DEVICE => {
                        woken = true;
                        self.device.event().read().inspect(|_| self.device.handle_event())
                    }
                    SOURCE => {
                        woken = true;
                        Ok(0)
                    }
                    queue => {
                        woken = true;
                        let kick = usize::try_from(queue)
                            .ok()
                            .and_then(|queue| self.shared.kicks().get(queue));
                        kick.map_or(Ok(0), EventFd::read)
                    }
                };
            }
            if let Err(error) = self.hear_of_config_again() {
                tracing::error!("device worker cannot wait: {error}");
                break;
            }
            if self.device.next_timer().is_some_and(|due| due <= Instant::now()) {
                woken = true;
                self.device.handle_event();
            }
            // Whose kick is on its way, or already here.
            let turn = self.shared.turns().wanted();
            woken |= turn.is_some();
            let orders = self.shared.take_orders(&mut self.config);
            if orders.stop {
                break;
            }
            self.obey(&orders);
            if (woken || orders.start) && !self.queues.is_empty() && !self.shared.silenced() {
                self.serve();
            }
            self.relay(&orders);
            if let Some(turn) = turn {
                self.shared.turns().taken(turn);
            }
            self.shared.publish(self.device.config());
        }
        self.queues.clear();
        self.shared.stopped();
    }

    /// Ends the pause if it is time: what was written meanwhile rings at once.
    fn hear_of_config_again(&mut self) -> io::Result<()> {
        if self.config_pause.is_none_or(|end| end > Instant::now()) {
            return Ok(());
        }
        self.config_pause = None;
        let bell = self.shared.config_bell().as_raw_fd();
        self.epoll
            .ctl(ControlOperation::Modify, bell, EpollEvent::new(ONCE, CONFIG))
    }

    /// How long to wait for a bell, in milliseconds as epoll_wait(2) takes them.
    fn patience(&self) -> i32 {
        let timers = [self.device.next_timer(), self.config_pause];
        timers.into_iter().flatten().min().map_or(-1, |due| {
            let time = due.saturating_duration_since(Instant::now());
            // Up, so that the moment has come when the wait is over.
            i32::try_from(time.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
        })
    }

    fn obey(&mut self, orders: &Orders) {
        if orders.config_written {
            self.device.config_written(&self.config);
        }
        if orders.reset {
            // Nothing of the driver's memory is touched after this, so the driver may have it back.
            self.queues.clear();
            self.device.reset();
            self.shared.finish_reset(self.device.config());
        }
        if orders.start {
            let (features, registers) = self.shared.activation();
            let memory = self.ram.memory();
            let queues = (0..)
                .zip(&registers)
                .map(|(index, registers)| VirtQueue::new(index, registers, features, memory));
            match queues.collect::<Result<Vec<VirtQueue>, QueueError>>() {
                Ok(queues) => self.start(features, queues, &registers),
                Err(error) => self.broken(&error),
            }
        }
    }

    /// The driver is ready: device and queues find each other.
    fn start(&mut self, features: u64, queues: Vec<VirtQueue>, registers: &[QueueRegisters]) {
        self.device.activate(features);
        let Some(outside) = self.device.outside() else {
            self.queues = queues;
            return;
        };
        let bells = self.shared.give_interrupts();
        let all = queues.iter().zip(registers).zip(self.shared.kicks()).zip(bells);
        let enabled = all.filter(|(((_, registers), _), _)| registers.enabled);
        let rings = enabled.map(|(((queue, registers), kick), interrupt)| {
            Ok(OutsideRing {
                index: queue.index(),
                size: registers.size,
                addresses: registers.rings,
                kick: kick.try_clone()?,
                interrupt,
            })
        });
        match rings.collect::<io::Result<_>>() {
            Ok(rings) => outside.start(features, rings),
            Err(error) => {
                tracing::error!("a device cannot be served outside: {error}");
                self.shared.needs_reset();
            }
        }
    }

    /// Passes on what a device outside has for its driver.
    fn relay(&mut self, orders: &Orders) {
        let Some(outside) = self.device.outside() else {
            return;
        };
        if orders.vectors {
            let bells = self.shared.give_interrupts();
            outside.move_interrupts((0..).zip(bells).collect());
        }
        if self.shared.silenced() {
            outside.silence();
        }
        outside.take_interrupts(&mut self.interrupts);
        let lost = outside.is_lost();
        for queue in self.interrupts.drain(..) {
            self.shared.interrupt_queue(queue);
        }
        if lost {
            self.shared.needs_reset();
        }
    }

    /// Lets the device serve its queues once, then tells the driver.
    fn serve(&mut self) {
        let memory = self.ram.memory();
        let mut result = self
            .device
            .process(memory, &mut self.queues, self.shared.faults());
        for queue in &mut self.queues {
            // Chains that were returned before a queue broke are the driver's to know about.
            match queue.finish(memory) {
                Ok(finish) => {
                    if finish.interrupt {
                        self.shared.interrupt_queue(queue.index());
                    }
                    if finish.more && result.is_ok() {
                        self.shared.kick(queue.index());
                    }
                }
                Err(error) => result = result.and(Err(error)),
            }
        }
        if let Err(error) = result {
            self.broken(&error);
        }
    }

    /// The driver has broken a queue: nothing is served until it resets the device.
    fn broken(&mut self, error: &QueueError) {
        self.shared
            .faults()
            .count(GuestFault::VirtioQueue { queue: error.queue() });
        tracing::debug!("device needs a reset: {error}");
        self.queues.clear();
        self.shared.needs_reset();
    }
}
