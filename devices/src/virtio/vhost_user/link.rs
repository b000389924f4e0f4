//! A connection to a daemon: what is asked of it, and how long it may take.
//!
//! The crate `vhost` knows the messages, and checks what comes back. It waits for ever, though: what is asked here is asked
//! while a short-lived thread looks at the clock, and ends the connection when the time is over.

use std::fmt;
use std::fs::File;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use vhost::vhost_user::message::{
    VhostUserConfigFlags, VhostUserHeaderFlag, VhostUserInflight, VhostUserProtocolFeatures,
    VhostUserVirtioFeatures,
};
use vhost::vhost_user::{Frontend, VhostUserFrontend};
use vhost::{VhostBackend, VringConfigData};

use super::channel::Channel;
use super::error::VhostUserError;
use super::kind::Kind;
use super::ring::Ring;
use super::table::Table;
use crate::virtio::outside::OutsideRing;
use crate::virtio::{F_EVENT_IDX, F_VERSION_1};

/// The time for all that one change needs: to begin, to start the rings, to stop them, to read the configuration.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// Pieces of memory that every daemon takes at once (the specification's baseline).
const BASELINE_REGIONS: usize = 8;

const WANTED: VhostUserProtocolFeatures = VhostUserProtocolFeatures::MQ
    .union(VhostUserProtocolFeatures::REPLY_ACK)
    .union(VhostUserProtocolFeatures::BACKEND_REQ)
    .union(VhostUserProtocolFeatures::CONFIG)
    .union(VhostUserProtocolFeatures::INFLIGHT_SHMFD)
    .union(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS);

/// What a daemon says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Offer {
    /// Its virtio features.
    pub(super) features: u64,
    /// Its configuration, as much as was asked for.
    pub(super) config: Vec<u8>,
    /// Queues that it serves.
    pub(super) queues: u16,
}

/// Which requests a daemon has in work, in memory that outlives it.
pub(super) struct Inflight {
    about: VhostUserInflight,
    file: File,
}

/// An open connection.
pub(super) struct Link {
    frontend: Frontend,
    stream: UnixStream,
    channel: Option<Channel>,
    protocol: VhostUserProtocolFeatures,
    /// The daemon has the guest's memory, which stays as it is.
    has_memory: bool,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("protocol", &self.protocol)
            .finish_non_exhaustive()
    }
}

/// Names the request that failed.
fn at(request: &'static str) -> impl FnOnce(vhost::Error) -> VhostUserError {
    move |source| VhostUserError::Request { request, source }
}

/// Does what `ask` does, and ends the connection when that takes too long.
fn in_time<T>(
    stream: &UnixStream,
    ask: impl FnOnce() -> Result<T, VhostUserError>,
) -> Result<T, VhostUserError> {
    thread::scope(|scope| {
        let (done, over) = mpsc::channel::<()>();
        let watch = move || {
            let late = over.recv_timeout(LIMIT) == Err(RecvTimeoutError::Timeout);
            if late {
                // Whoever waits for this socket gets its end. It may have ended by itself.
                let _ = stream.shutdown(Shutdown::Both);
            }
            late
        };
        let watcher = thread::Builder::new()
            .name("vhost-user".to_owned())
            .spawn_scoped(scope, watch)
            .map_err(VhostUserError::Host)?;
        let answer = ask();
        drop(done);
        match (watcher.join(), answer) {
            (Ok(true), Err(_)) => Err(VhostUserError::Timeout { limit: LIMIT }),
            (_, answer) => answer,
        }
    })
}

impl Link {
    /// Introduces us to the daemon at `stream`, of which a device of `kind` is wanted with up to `queues` queues.
    pub(super) fn open(
        stream: UnixStream,
        kind: &Kind,
        queues: u16,
    ) -> Result<(Link, Offer), VhostUserError> {
        let clone = stream.try_clone().map_err(VhostUserError::Host)?;
        let mut frontend = Frontend::from_stream(clone, queues.into());
        let begun = in_time(&stream, || begin(&mut frontend, kind, queues))?;
        let (protocol, channel, offer) = begun;
        let link = Link {
            frontend,
            stream,
            channel,
            protocol,
            has_memory: false,
        };
        Ok((link, offer))
    }

    /// What becomes readable when the daemon is gone.
    pub(super) fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Where the daemon tells of changed configuration, as long as what comes there is understood.
    pub(super) fn channel(&mut self) -> &mut Option<Channel> {
        &mut self.channel
    }

    /// Has the daemon serve `rings`. `inflight` is made where the daemon knows it and it is not there.
    pub(super) fn start(
        &mut self,
        features: u64,
        table: &Table,
        rings: &[Ring],
        queues: u16,
        inflight: &mut Option<Inflight>,
    ) -> Result<(), VhostUserError> {
        let (frontend, protocol, has_memory) = (&mut self.frontend, self.protocol, &mut self.has_memory);
        in_time(&self.stream, || {
            let features = features | VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
            frontend.set_features(features).map_err(at("SET_FEATURES"))?;
            if !*has_memory {
                set_memory(frontend, protocol, table)?;
                *has_memory = true;
            }
            if protocol.contains(VhostUserProtocolFeatures::INFLIGHT_SHMFD) {
                set_inflight(frontend, rings, queues, inflight)?;
            }
            rings.iter().try_for_each(|ring| start_ring(frontend, ring))
        })
    }

    /// Has the interrupts of `rings` go where they say now.
    pub(super) fn move_calls(&mut self, rings: &[Ring]) -> Result<(), VhostUserError> {
        let frontend = &mut self.frontend;
        in_time(&self.stream, || {
            rings.iter().try_for_each(|Ring { ring, call, .. }| {
                let set = frontend.set_vring_call(ring.index.into(), call);
                set.map_err(at("SET_VRING_CALL"))
            })
        })
    }

    /// Has the daemon let go of `rings`; they then know where it would go on.
    pub(super) fn stop(&mut self, rings: &mut [Ring]) -> Result<(), VhostUserError> {
        let frontend = &mut self.frontend;
        in_time(&self.stream, || {
            for ring in rings {
                let base = frontend.get_vring_base(ring.ring.index.into());
                let base = base.map_err(at("GET_VRING_BASE"))?;
                // Packed rings, which have more than an index, are not offered.
                let [low, high, ..] = base.to_le_bytes();
                ring.base = u16::from_le_bytes([low, high]);
            }
            Ok(())
        })
    }

    /// The daemon's configuration now.
    pub(super) fn config(&mut self, size: u32) -> Result<Vec<u8>, VhostUserError> {
        let frontend = &mut self.frontend;
        in_time(&self.stream, || read_config(frontend, size))
    }
}

/// Everything up to what the daemon offers.
fn begin(
    frontend: &mut Frontend,
    kind: &Kind,
    queues: u16,
) -> Result<(VhostUserProtocolFeatures, Option<Channel>, Offer), VhostUserError> {
    let lacks = |what| VhostUserError::Lacks { what };
    frontend.set_owner().map_err(at("SET_OWNER"))?;
    let features = frontend.get_features().map_err(at("GET_FEATURES"))?;
    let needed = [
        (
            VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits(),
            "protocol features",
        ),
        (F_VERSION_1, "virtio 1 (VIRTIO_F_VERSION_1)"),
        (F_EVENT_IDX, "VIRTIO_F_EVENT_IDX"),
    ];
    if let Some((_, what)) = needed.iter().find(|(bit, _)| features & bit == 0) {
        return Err(lacks(what));
    }
    let protocol = frontend
        .get_protocol_features()
        .map_err(at("GET_PROTOCOL_FEATURES"))?
        & WANTED;
    frontend
        .set_protocol_features(protocol)
        .map_err(at("SET_PROTOCOL_FEATURES"))?;
    if protocol.contains(VhostUserProtocolFeatures::REPLY_ACK) {
        frontend.set_hdr_flags(VhostUserHeaderFlag::NEED_REPLY);
    }
    let served = match protocol.contains(VhostUserProtocolFeatures::MQ) {
        true => frontend.get_queue_num().map_err(at("GET_QUEUE_NUM"))?,
        false => queues.into(),
    };
    let served = u16::try_from(served).unwrap_or(u16::MAX);
    let config = match kind.daemon_config() {
        Some(_) if !protocol.contains(VhostUserProtocolFeatures::CONFIG) => {
            return Err(lacks("its configuration (VHOST_USER_PROTOCOL_F_CONFIG)"));
        }
        Some(size) => read_config(frontend, size)?,
        None => Vec::new(),
    };
    let wants_channel = kind.daemon_config().is_some();
    let channel = match protocol.contains(VhostUserProtocolFeatures::BACKEND_REQ) && wants_channel {
        true => {
            let (channel, theirs) = Channel::open().map_err(VhostUserError::Host)?;
            let given = frontend.set_backend_request_fd(&theirs);
            given.map_err(at("SET_BACKEND_REQ_FD"))?;
            Some(channel)
        }
        false => None,
    };
    let offer = Offer {
        features,
        config,
        queues: served,
    };
    Ok((protocol, channel, offer))
}

fn read_config(frontend: &mut Frontend, size: u32) -> Result<Vec<u8>, VhostUserError> {
    let room = vec![0; size as usize];
    let answer = frontend.get_config(0, size, VhostUserConfigFlags::WRITABLE, &room);
    Ok(answer.map_err(at("GET_CONFIG"))?.1)
}

fn set_memory(
    frontend: &mut Frontend,
    protocol: VhostUserProtocolFeatures,
    table: &Table,
) -> Result<(), VhostUserError> {
    let regions = table.regions();
    if regions.len() <= BASELINE_REGIONS {
        return frontend
            .set_mem_table(&regions)
            .map(drop)
            .map_err(at("SET_MEM_TABLE"));
    }
    let most = match protocol.contains(VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS) {
        true => frontend.get_max_mem_slots().map_err(at("GET_MAX_MEM_SLOTS"))?,
        false => BASELINE_REGIONS as u64,
    };
    if regions.len() as u64 > most {
        let regions = regions.len();
        return Err(VhostUserError::TooManyRegions { regions, most });
    }
    let first = &regions[..BASELINE_REGIONS];
    frontend.set_mem_table(first).map_err(at("SET_MEM_TABLE"))?;
    for region in &regions[BASELINE_REGIONS..] {
        frontend.add_mem_region(region).map_err(at("ADD_MEM_REG"))?;
    }
    Ok(())
}

fn set_inflight(
    frontend: &mut Frontend,
    rings: &[Ring],
    queues: u16,
    inflight: &mut Option<Inflight>,
) -> Result<(), VhostUserError> {
    let size = rings.iter().map(|ring| ring.ring.size).max().unwrap_or(1);
    let inflight = match inflight {
        Some(inflight) => inflight,
        None => {
            let wish = VhostUserInflight::new(0, 0, queues, size);
            let (about, file) = frontend.get_inflight_fd(&wish).map_err(at("GET_INFLIGHT_FD"))?;
            inflight.insert(Inflight { about, file })
        }
    };
    frontend
        .set_inflight_fd(&inflight.about, inflight.file.as_raw_fd())
        .map_err(at("SET_INFLIGHT_FD"))
}

fn start_ring(frontend: &mut Frontend, ring: &Ring) -> Result<(), VhostUserError> {
    let OutsideRing {
        index, size, kick, ..
    } = &ring.ring;
    let (index, size) = (usize::from(*index), *size);
    let [desc_table_addr, avail_ring_addr, used_ring_addr] = ring.places;
    let addresses = VringConfigData {
        queue_max_size: size,
        queue_size: size,
        flags: 0,
        desc_table_addr,
        avail_ring_addr,
        used_ring_addr,
        log_addr: None,
    };
    frontend.set_vring_num(index, size).map_err(at("SET_VRING_NUM"))?;
    frontend
        .set_vring_base(index, ring.base)
        .map_err(at("SET_VRING_BASE"))?;
    frontend
        .set_vring_addr(index, &addresses)
        .map_err(at("SET_VRING_ADDR"))?;
    frontend
        .set_vring_call(index, &ring.call)
        .map_err(at("SET_VRING_CALL"))?;
    frontend
        .set_vring_kick(index, kick)
        .map_err(at("SET_VRING_KICK"))?;
    frontend
        .set_vring_enable(index, true)
        .map_err(at("SET_VRING_ENABLE"))
}
