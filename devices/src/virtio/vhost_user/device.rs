//! The device half of what a daemon serves: the connection's ups and downs.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::Ordering;
use std::time::Instant;

use memory::ram::Ram;
use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::fault::Faults;
use crate::virtio::outside::{Outside, OutsideRing};
use crate::virtio::queue::{QueueError, VirtQueue};
use crate::virtio::{Description, Memory, VirtioDevice};

use super::channel::Channel;
use super::error::{VhostUserError, chain};
use super::link::{Inflight, Link};
use super::ring::Ring;
use super::search::Search;
use super::table::Table;
use super::{Dial, Introduced, MAX_QUEUES, VhostUserHandle, VhostUserSpec};

/// Size of every queue.
const QUEUE_SIZE: u16 = 256;
/// Events taken in one turn: one of each descriptor that is watched, so that none stays behind unheard.
const EVENTS: usize = MAX_QUEUES as usize + 2;
/// What the event of the connection, or of its channel, is told by; a queue's is its number.
const STREAM: u64 = u64::MAX;
const CHANNEL: u64 = u64::MAX - 1;

/// The device half; lives in its worker.
pub struct VhostUser {
    spec: VhostUserSpec,
    dial: Box<dyn Dial>,
    table: Table,
    /// What the driver is offered, and the configuration that it reads.
    features: u64,
    config: Vec<u8>,
    link: Option<Link>,
    /// The daemon serves the rings.
    running: bool,
    /// What the driver accepted, and its rings; none without a driver.
    accepted: u64,
    rings: Vec<Ring>,
    inflight: Option<Inflight>,
    handle: VhostUserHandle,
    /// One for each queue, used by one daemon after the other.
    calls: Vec<EventFd>,
    /// Watches connection, channel and calls; the worker watches it.
    epoll: Epoll,
    search: Search,
    /// The device cannot go on before a reset.
    lost: bool,
    /// Interrupts that are due although nobody called: what a daemon that has died did last may not have been told.
    all_due: bool,
}

impl fmt::Debug for VhostUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VhostUser")
            .field("spec", &self.spec)
            .field("link", &self.link)
            .field("running", &self.running)
            .finish_non_exhaustive()
    }
}

impl VhostUser {
    pub(super) fn new(
        introduced: Introduced,
        ram: Ram,
    ) -> Result<(VhostUserHandle, VhostUser), VhostUserError> {
        let Introduced {
            spec,
            dial,
            link,
            offer,
        } = introduced;
        let table = Table::new(ram)?;
        let host = VhostUserError::Host;
        let event = || EventFd::new(EFD_NONBLOCK);
        let handle = VhostUserHandle::new().map_err(host)?;
        let calls = (0..spec.queues).map(|_| event()).collect::<io::Result<_>>();
        let mut device = VhostUser {
            features: spec.kind.features(offer.features),
            config: spec.kind.config(&offer.config, spec.queues, true),
            calls: calls.map_err(host)?,
            epoll: Epoll::new().map_err(host)?,
            search: Search::new(spec.reconnect),
            spec,
            dial,
            table,
            link: None,
            running: false,
            accepted: 0,
            rings: Vec::new(),
            inflight: None,
            handle: handle.clone(),
            lost: false,
            all_due: false,
        };
        for (queue, call) in (0..).zip(&device.calls) {
            device.watch(call, queue).map_err(host)?;
        }
        device.take_link(link).map_err(host)?;
        Ok((handle, device))
    }

    fn watch(&self, what: &dyn AsRawFd, token: u64) -> io::Result<()> {
        let event = EpollEvent::new(EventSet::IN, token);
        self.epoll.ctl(ControlOperation::Add, what.as_raw_fd(), event)
    }

    /// To be called before `what` is closed: the descriptor may live on in the daemon, and with it what watches it.
    fn unwatch(&self, what: &dyn AsRawFd) {
        let (what, nothing) = (what.as_raw_fd(), EpollEvent::default());
        // What is not watched any more need not be taken away.
        let _ = self.epoll.ctl(ControlOperation::Delete, what, nothing);
    }

    /// From now on this is the connection.
    fn take_link(&mut self, mut link: Link) -> io::Result<()> {
        self.watch(link.stream(), STREAM)?;
        if let Some(channel) = link.channel() {
            self.watch(channel, CHANNEL)?;
        }
        self.link = Some(link);
        self.handle.connected.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Finds the daemon again.
    fn connect(&mut self) -> Result<(), VhostUserError> {
        let stream = self.dial.dial().map_err(VhostUserError::Connect)?;
        let (link, offer) = Link::open(stream, &self.spec.kind, self.spec.queues)?;
        // What the driver was offered holds until the end of the machine.
        let missing = self.features & !self.spec.kind.features(offer.features);
        if missing != 0 {
            return Err(VhostUserError::OffersLess { features: missing });
        }
        if offer.queues < self.spec.queues {
            return Err(VhostUserError::Lacks {
                what: "as many queues as before",
            });
        }
        self.config = self.spec.kind.config(&offer.config, self.spec.queues, true);
        self.take_link(link).map_err(VhostUserError::Host)
    }

    /// Has the daemon serve the rings, if it should and does not.
    fn run(&mut self) {
        let paused = self.handle.paused.load(Ordering::Acquire);
        if self.running || self.lost || self.rings.is_empty() || paused {
            return;
        }
        let Some(link) = &mut self.link else {
            return;
        };
        let features = self.spec.kind.for_daemon(self.accepted);
        let inflight = &mut self.inflight;
        // The first ring may be served before the last one is started.
        self.running = true;
        match link.start(features, &self.table, &self.rings, self.spec.queues, inflight) {
            Ok(()) => {
                self.all_due = true;
                for ring in &self.rings {
                    // Something may have been made available meanwhile. A full counter is as good a ring as any.
                    let _ = ring.ring.kick.write(1);
                }
            }
            Err(error) => self.disconnect(&error),
        }
    }

    /// Has the daemon let go of the rings, and remembers where it was.
    fn halt(&mut self) {
        if !std::mem::take(&mut self.running) {
            return;
        }
        if let Some(link) = &mut self.link
            && let Err(error) = link.stop(&mut self.rings)
        {
            self.running = true;
            self.disconnect(&error);
        }
    }

    /// The connection is over.
    fn disconnect(&mut self, why: &dyn std::error::Error) {
        let Some(mut link) = self.link.take() else {
            return;
        };
        self.handle.connected.store(false, Ordering::Relaxed);
        self.search.tell_gone(&self.spec.id, why);
        self.unwatch(link.stream());
        if let Some(channel) = link.channel() {
            self.unwatch(channel);
        }
        drop(link);
        let daemon = std::mem::take(&mut self.config);
        self.config = self.spec.kind.config(&daemon, self.spec.queues, false);
        self.find_bases();
        self.lost |= !self.search.again() && !self.rings.is_empty();
    }

    /// Where the next daemon goes on: after what this one has answered.
    fn find_bases(&mut self) {
        let (memory, running) = (self.table.ram().memory(), std::mem::take(&mut self.running));
        let open = self
            .rings
            .iter_mut()
            .map(|ring| u32::from(ring.find_base(memory, running)));
        let unanswered: u32 = open.sum();
        // A daemon may answer out of order: which of the requests are still to be done is known only with its own record.
        if unanswered > 0 && self.inflight.is_none() && self.spec.kind.remembers() {
            self.lost = true;
            self.search.tell_open(&self.spec.id, unanswered);
        }
    }

    /// Looks for the daemon, and has it go on where the last one was.
    fn find_daemon(&mut self) {
        if self.link.is_some() {
            return;
        }
        match self.connect() {
            Ok(()) => {
                self.search.is_over();
                self.search.tell_back(&self.spec.id);
            }
            Err(error) => {
                self.search.tell(&self.spec.id, &error);
                self.lost |= !self.search.again() && !self.rings.is_empty();
            }
        }
    }

    /// The daemon says that its configuration may have changed.
    fn hear(&mut self) {
        let (Some(link), Some(size)) = (&mut self.link, self.spec.kind.daemon_config()) else {
            return;
        };
        if !link.channel().as_mut().is_some_and(Channel::take_news) {
            if let Some(channel) = link.channel().take() {
                self.unwatch(&channel);
            }
            return;
        }
        match link.config(size) {
            Ok(config) => self.config = self.spec.kind.config(&config, self.spec.queues, true),
            Err(error) => self.disconnect(&error),
        }
    }
}

impl VirtioDevice for VhostUser {
    fn description(&self) -> Description {
        let (device_type, class) = self.spec.kind.identity();
        Description {
            id: self.spec.id.clone(),
            device_type,
            class,
            features: self.features,
            queue_sizes: vec![QUEUE_SIZE; self.spec.queues.into()],
            config_writable: Vec::new(),
        }
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn event(&self) -> &EventFd {
        &self.handle.event
    }

    fn outside(&mut self) -> Option<&mut dyn Outside> {
        Some(self)
    }

    fn next_timer(&self) -> Option<Instant> {
        self.search.due()
    }

    fn handle_event(&mut self) {
        match self.handle.paused.load(Ordering::Acquire) {
            true => self.halt(),
            false => self.run(),
        }
        if self.search.due().is_some_and(|due| due <= Instant::now()) {
            self.find_daemon();
            self.run();
        }
    }

    fn process(&mut self, _: &Memory, _: &mut [VirtQueue], _: &Faults) -> Result<(), QueueError> {
        Ok(())
    }

    fn reset(&mut self) {
        self.halt();
        self.rings.clear();
        self.inflight = None;
        self.lost = false;
        self.all_due = false;
    }
}

impl Outside for VhostUser {
    fn start(&mut self, features: u64, rings: Vec<OutsideRing>) {
        self.accepted = features;
        let rings = rings.into_iter().map(|ring| {
            let call = self.calls.get(usize::from(ring.index));
            let call = call.ok_or(VhostUserError::Host(io::ErrorKind::NotFound.into()))?;
            Ring::new(ring, call, &self.table)
        });
        match rings.collect::<Result<Vec<Ring>, VhostUserError>>() {
            Ok(rings) => self.rings = rings,
            Err(error) => {
                // No warning: a driver can have this happen as often as it likes.
                tracing::debug!("device '{}' needs a reset: {}", self.spec.id, chain(&error));
                self.lost = true;
                return;
            }
        }
        if self.search.due().is_none() {
            self.find_daemon();
        }
        self.run();
    }

    fn move_interrupts(&mut self, interrupts: Vec<(u16, Option<EventFd>)>) {
        for (queue, interrupt) in interrupts {
            let own = self.calls.get(usize::from(queue)).map(EventFd::try_clone);
            let ring = self.rings.iter_mut().find(|ring| ring.ring.index == queue);
            // Without a descriptor the interrupts stay where they are.
            if let (Some(ring), Some(call)) = (ring, interrupt.or_else(|| own?.ok())) {
                ring.set_call(call);
            }
        }
        // What was told at the old place meanwhile is told again at the new one.
        self.all_due = true;
        if self.running
            && let Some(link) = &mut self.link
            && let Err(error) = link.move_calls(&self.rings)
        {
            self.disconnect(&error);
        }
    }

    fn source(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    fn silence(&mut self) {
        self.halt();
        self.rings.clear();
    }

    fn take_interrupts(&mut self, interrupts: &mut Vec<u16>) {
        if std::mem::take(&mut self.all_due) {
            interrupts.extend(self.rings.iter().map(|ring| ring.ring.index));
        }
        let mut events = [EpollEvent::default(); EVENTS];
        // It does not wait, so no signal interrupts it.
        let count = self.epoll.wait(0, &mut events).unwrap_or(0);
        for event in &events[..count] {
            match event.data() {
                STREAM => {
                    let gone = io::Error::from(io::ErrorKind::ConnectionReset);
                    self.disconnect(&gone);
                }
                CHANNEL => self.hear(),
                queue => {
                    let queue = usize::try_from(queue).unwrap_or(usize::MAX);
                    let Some(call) = self.calls.get(queue) else {
                        continue;
                    };
                    // What cannot be read was not rung.
                    if let (Ok(_), Ok(queue)) = (call.read(), u16::try_from(queue)) {
                        interrupts.push(queue);
                    }
                }
            }
        }
    }

    fn is_lost(&self) -> bool {
        self.lost
    }
}
