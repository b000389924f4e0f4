//! The network card (virtio 1.2, §5.1): frames between its driver and an open [`Network`].
//!
//! One queue to receive, one to send. What one call does is bounded in chains, so that neither a flood from the network nor a
//! busy driver keeps the other direction, or an order of the transport, waiting for long; the rest is done in the next.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::fault::Faults;
use crate::log_limit::LogLimit;
use crate::net::Network;

use super::queue::{QueueError, VirtQueue};
use super::{Description, F_INDIRECT_DESC, Memory, VirtioDevice};

pub mod features;
mod receive;
mod send;

use features::{F_MAC, F_MRG_RXBUF, F_MTU, F_STATUS, Mac};
use receive::Receiver;

/// Virtio device number of the network card.
const DEVICE_TYPE: u8 = 1;
/// PCI class: Ethernet controller.
const CLASS: u32 = 0x02_00_00;
/// Size of each queue.
const QUEUE_SIZE: u16 = 256;
/// After so many chains in one direction the driver hears of what is done, and orders are looked for.
const TURN: u16 = 64;

/// Bytes of the configuration, up to and with `mtu` (§5.1.4).
const CONFIG: usize = 12;
const STATUS: usize = 6;
const PAIRS: usize = 8;
const MTU: usize = 10;
/// VIRTIO_NET_S_LINK_UP.
const LINK_UP: u8 = 1;

/// What a network card is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetSpec {
    /// The user's name for it.
    pub id: String,
    /// Its address.
    pub mac: Mac,
    /// What is offered of [`features::OPTIONAL`]. What lacks something that it needs is left out.
    pub features: u64,
    /// The largest packet that the network takes, where the driver is to know.
    pub mtu: Option<u16>,
}

/// The device half of a network card; lives in its worker.
pub struct Net {
    spec: NetSpec,
    network: Box<dyn Network>,
    config: [u8; CONFIG],
    /// Rung by the device itself, when there is more to do.
    event: EventFd,
    receiver: Receiver,
    /// Of a network that keeps its offloads, whose driver starts as often as it likes.
    limit: LogLimit,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Net")
            .field("spec", &self.spec)
            .field("network", &self.network)
            .finish_non_exhaustive()
    }
}

impl Net {
    /// A card in `network`.
    ///
    /// # Errors
    /// When no eventfd can be had.
    pub fn new(spec: NetSpec, network: Box<dyn Network>) -> io::Result<Net> {
        let mut config = [0; CONFIG];
        config[..STATUS].copy_from_slice(&spec.mac.bytes());
        config[STATUS] = LINK_UP;
        config[PAIRS] = 1;
        config[MTU..].copy_from_slice(&spec.mtu.unwrap_or(0).to_le_bytes());
        Ok(Net {
            spec,
            network,
            config,
            event: EventFd::new(EFD_NONBLOCK)?,
            receiver: Receiver::new(),
            limit: LogLimit::default(),
        })
    }

    /// Tells the network what the driver can take.
    fn set_offloads(&mut self, features: u64) {
        if let Err(error) = self.network.set_offloads(features::offloads(features))
            && let Some(left_out) = self.limit.pass(Instant::now())
        {
            let id = &self.spec.id;
            tracing::warn!("'{id}': the network keeps its offloads: {error}{left_out}");
        }
    }

    /// The network is gone: the driver finds its cable pulled.
    fn lose(&mut self, error: &io::Error) {
        if std::mem::take(&mut self.config[STATUS]) == LINK_UP {
            tracing::warn!("'{}' has lost its network: {error}", self.spec.id);
        }
    }
}

impl VirtioDevice for Net {
    fn description(&self) -> Description {
        let optional = features::sound(self.spec.features & features::OPTIONAL);
        let mtu = self.spec.mtu.map_or(0, |_| F_MTU);
        Description {
            id: self.spec.id.clone(),
            device_type: DEVICE_TYPE,
            class: CLASS,
            features: F_MAC | F_STATUS | F_INDIRECT_DESC | mtu | optional,
            queue_sizes: vec![QUEUE_SIZE; 2],
            config_writable: Vec::new(),
        }
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn event(&self) -> &EventFd {
        &self.event
    }

    fn source(&self) -> Option<BorrowedFd<'_>> {
        Some(self.network.readable())
    }

    fn activate(&mut self, features: u64) {
        let features = features::sound(features);
        self.receiver.start(features, features & F_MRG_RXBUF != 0);
        self.set_offloads(features);
    }

    fn process(
        &mut self,
        memory: &Memory,
        queues: &mut [VirtQueue],
        faults: &Faults,
    ) -> Result<(), QueueError> {
        let [receive, send] = queues else {
            return Ok(());
        };
        let network = self.network.as_mut();
        let received = self.receiver.serve(network, memory, receive, faults)?;
        let sent = send::serve(network, memory, send, faults)?;
        if received.is_full() || sent.is_full() {
            // A counter that is full rings as well.
            let _ = self.event.write(1);
        }
        if let Turn::Lost(error) = received {
            self.lose(&error);
        }
        Ok(())
    }

    fn reset(&mut self) {
        self.receiver.start(0, false);
        self.set_offloads(0);
    }
}

/// How one direction's part of a call ended.
#[derive(Debug)]
enum Turn {
    /// Everything that can be done is done.
    Idle,
    /// There may be more to do.
    Full,
    /// The network is gone.
    Lost(io::Error),
}

impl Turn {
    fn is_full(&self) -> bool {
        matches!(self, Turn::Full)
    }
}

#[cfg(test)]
mod tests;
