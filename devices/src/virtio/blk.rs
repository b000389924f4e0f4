//! The disk (virtio 1.2, §5.2): its driver's requests become reads and writes of an open [`DiskImage`].
//!
//! Requests are served one after the other by the device's worker, straight from and to guest memory. What one call does is
//! bounded in requests and bytes, so that a reset or the end of the machine never waits long; the rest is served in the next.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::disk::DiskImage;
use crate::fault::{Faults, GuestFault};
use crate::log_limit::LogLimit;

use super::queue::{QueueError, VirtQueue};
use super::{Description, F_INDIRECT_DESC, Memory, VirtioDevice};

mod config_space;
mod handle;
mod request;

pub use handle::{BlkHandle, BlkStats};

use config_space::{MAX_DISCARD_SECTORS, MAX_SEGMENTS, MAX_ZEROES_SECTORS, config_space};
use handle::Counters;
use request::{Broken, Kind, Range, Request, Status};

/// VIRTIO_BLK_F_SIZE_MAX: the configuration says how long a piece of a request may be.
pub const F_SIZE_MAX: u64 = 1 << 1;
/// VIRTIO_BLK_F_SEG_MAX: the configuration says how many pieces a request may have.
pub const F_SEG_MAX: u64 = 1 << 2;
/// VIRTIO_BLK_F_RO: the disk cannot be written.
pub const F_RO: u64 = 1 << 5;
/// VIRTIO_BLK_F_FLUSH: what was written is safe only after a flush.
pub const F_FLUSH: u64 = 1 << 9;
/// VIRTIO_BLK_F_MQ: there are several queues.
pub const F_MQ: u64 = 1 << 12;
/// VIRTIO_BLK_F_DISCARD: the driver may say which sectors it does not need.
pub const F_DISCARD: u64 = 1 << 13;
/// VIRTIO_BLK_F_WRITE_ZEROES: the driver may ask for zeros without sending them.
pub const F_WRITE_ZEROES: u64 = 1 << 14;

/// Virtio device number of the disk.
const DEVICE_TYPE: u8 = 2;
/// PCI class: SCSI storage, as with QEMU.
const CLASS: u32 = 0x01_00_00;
/// Size of every queue.
const QUEUE_SIZE: u16 = 256;
/// Bytes of a serial number.
pub const SERIAL_BYTES: usize = 20;
/// Most queues that a disk may have.
pub const MAX_QUEUES: u16 = 64;

/// After so many requests or bytes in one call the driver hears of what is done, and orders are looked for.
const TURN_REQUESTS: usize = 32;
const TURN_BYTES: u64 = 4 << 20;

/// What a disk is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlkSpec {
    /// The user's name for it.
    pub id: String,
    /// What the driver reads as its serial number, at most [`SERIAL_BYTES`].
    pub serial: String,
    /// Number of queues, from 1 to [`MAX_QUEUES`].
    pub queues: u16,
    /// The driver must not write.
    pub read_only: bool,
    /// The driver may discard sectors.
    pub discard: bool,
}

/// The device half of a disk; lives in its worker.
pub struct Blk {
    spec: BlkSpec,
    image: Box<dyn DiskImage>,
    config: [u8; config_space::SIZE],
    counters: Arc<Counters>,
    /// Rung by the device itself, when there is more to do.
    event: EventFd,
    /// The driver knows nothing of flushes: every write is followed by one.
    write_through: bool,
    /// The user wants another flush when the queues are empty.
    flush_due: bool,
    /// Where the next call begins, so that no queue starves.
    first: usize,
    /// The last error of the host was told.
    told: Option<io::ErrorKind>,
    limit: LogLimit,
}

impl fmt::Debug for Blk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blk")
            .field("spec", &self.spec)
            .field("image", &self.image)
            .finish_non_exhaustive()
    }
}

impl Blk {
    /// A disk with the contents of `image`, and what one may ask about it.
    ///
    /// # Errors
    /// When no eventfd can be had.
    pub fn new(spec: BlkSpec, image: Box<dyn DiskImage>) -> io::Result<(BlkHandle, Blk)> {
        let counters = Arc::new(Counters::default());
        let event = EventFd::new(EFD_NONBLOCK)?;
        let handle = BlkHandle::new(Arc::clone(&counters), event.try_clone()?);
        let blk = Blk {
            config: config_space(&spec, image.size()),
            spec,
            image,
            counters: Arc::clone(&counters),
            event,
            write_through: true,
            flush_due: false,
            first: 0,
            told: None,
            limit: LogLimit::default(),
        };
        Ok((handle, blk))
    }

    /// Serves one request and says how it went.
    fn serve(&mut self, request: &Request<'_>) -> Status {
        let read_only = self.spec.read_only;
        match request.kind {
            Kind::Read => match request.span(&request.into, self.image.size()) {
                Some(range) => {
                    let done = self.image.read(range.offset, &request.into);
                    self.outcome(done, |counters| counters.read(range.len))
                }
                None => Status::Error,
            },
            Kind::Write => match request.span(&request.out, self.image.size()) {
                Some(range) if !read_only => {
                    let done = self.image.write(range.offset, &request.out);
                    let done = done.and_then(|()| self.settle());
                    self.outcome(done, |counters| counters.write(range.len))
                }
                _ => Status::Error,
            },
            Kind::Flush => {
                let done = self.image.flush();
                self.outcome(done, Counters::flush)
            }
            Kind::Id => {
                let mut serial = [0; SERIAL_BYTES];
                let text = self.spec.serial.as_bytes();
                let len = text.len().min(SERIAL_BYTES);
                serial[..len].copy_from_slice(&text[..len]);
                match request.answer(&serial) {
                    true => Status::Ok,
                    false => Status::Error,
                }
            }
            Kind::Discard if !self.spec.discard => Status::Unsupported,
            Kind::Discard | Kind::WriteZeroes if read_only => Status::Error,
            Kind::Discard => match request.range(self.image.size(), MAX_DISCARD_SECTORS) {
                // No flag means anything here.
                Some((_, flags)) if flags != 0 => Status::Unsupported,
                Some((Range { offset, len }, _)) => {
                    let done = self.image.discard(offset, len).and_then(|()| self.settle());
                    self.outcome(done, |counters| counters.discard(len))
                }
                None => Status::Error,
            },
            Kind::WriteZeroes => match request.range(self.image.size(), MAX_ZEROES_SECTORS) {
                Some((_, flags)) if flags & !request::UNMAP != 0 => Status::Unsupported,
                Some((Range { offset, len }, flags)) => {
                    let unmap = self.spec.discard && flags & request::UNMAP != 0;
                    let done = self.image.write_zeroes(offset, len, unmap);
                    let done = done.and_then(|()| self.settle());
                    self.outcome(done, |counters| counters.write(len))
                }
                None => Status::Error,
            },
            Kind::Unknown => Status::Unsupported,
        }
    }

    /// Makes what was written safe, for a driver that cannot ask for it.
    fn settle(&mut self) -> io::Result<()> {
        if self.write_through {
            self.image.flush()
        } else {
            Ok(())
        }
    }

    fn flush_if_due(&mut self) {
        if std::mem::take(&mut self.flush_due) {
            self.flush_for_user();
        }
    }

    /// Makes safe what was written, for the user.
    fn flush_for_user(&mut self) {
        if !self.spec.read_only
            && let Err(error) = self.image.flush()
        {
            tracing::error!("disk '{}': what was written may be lost: {error}", self.spec.id);
        }
    }

    /// Counts; tells the user of an error of the host, once in a row of the same kind. A guest may have requests fail and succeed
    /// in turn.
    fn outcome(&mut self, done: io::Result<()>, count: impl FnOnce(&Counters)) -> Status {
        match done {
            Ok(()) => {
                self.told = None;
                count(&self.counters);
                Status::Ok
            }
            Err(error) => {
                self.counters.fail();
                if self.told != Some(error.kind())
                    && let Some(left_out) = self.limit.pass(Instant::now())
                {
                    self.told = Some(error.kind());
                    let id = &self.spec.id;
                    tracing::warn!("disk '{id}': the guest gets an I/O error: {error}{left_out}");
                }
                Status::Error
            }
        }
    }

    /// Serves `queue` until it is empty or the turn is over. Returns whether it may have more.
    fn serve_queue(
        &mut self,
        memory: &Memory,
        queue: &mut VirtQueue,
        turn: &mut Turn,
        faults: &Faults,
    ) -> Result<bool, QueueError> {
        let number = queue.index();
        while turn.requests > 0 && turn.bytes > 0 {
            let Some(chain) = queue.available(memory)?.next() else {
                return Ok(false);
            };
            let head = chain.head();
            turn.requests -= 1;
            let written = match Request::read(memory, chain) {
                Ok(request) => {
                    turn.bytes = turn.bytes.saturating_sub(cost(&request));
                    let status = self.serve(&request);
                    request.finish(status)
                }
                Err(Broken) => {
                    faults.count(GuestFault::VirtioChain { queue: number });
                    0
                }
            };
            queue.add_used(memory, head, written)?;
        }
        Ok(true)
    }
}

/// What a request takes of a turn, in bytes.
fn cost(request: &Request<'_>) -> u64 {
    match request.kind {
        Kind::Read | Kind::Write | Kind::Id | Kind::Unknown => request.bytes(),
        // The host may have much to do for them.
        Kind::Flush | Kind::Discard | Kind::WriteZeroes => TURN_BYTES / 4,
    }
}

/// What one call may still do.
struct Turn {
    requests: usize,
    bytes: u64,
}

impl VirtioDevice for Blk {
    fn description(&self) -> Description {
        let offers = [
            (true, F_SIZE_MAX | F_SEG_MAX | F_FLUSH | F_INDIRECT_DESC),
            (self.spec.queues > 1, F_MQ),
            (self.spec.read_only, F_RO),
            (!self.spec.read_only && self.spec.discard, F_DISCARD),
            (!self.spec.read_only, F_WRITE_ZEROES),
        ];
        let offered = offers.into_iter().filter(|(offered, _)| *offered);
        Description {
            id: self.spec.id.clone(),
            device_type: DEVICE_TYPE,
            class: CLASS,
            features: offered.fold(0, |features, (_, feature)| features | feature),
            queue_sizes: vec![QUEUE_SIZE; self.spec.queues.into()],
            config_writable: Vec::new(),
        }
    }

    fn config(&self) -> &[u8] {
        &self.config
    }

    fn event(&self) -> &EventFd {
        &self.event
    }

    fn activate(&mut self, features: u64) {
        self.write_through = features & F_FLUSH == 0;
    }

    fn handle_event(&mut self) {
        if self.counters.take_flush_wish() {
            // Now, since queues that are broken or silenced are not served; once more after what others hold.
            self.flush_due = true;
            self.flush_for_user();
        }
    }

    fn process(
        &mut self,
        memory: &Memory,
        queues: &mut [VirtQueue],
        faults: &Faults,
    ) -> Result<(), QueueError> {
        let mut turn = Turn {
            requests: TURN_REQUESTS,
            bytes: TURN_BYTES,
        };
        let count = queues.len();
        for step in 0..count {
            let at = (self.first + step) % count;
            if self.serve_queue(memory, &mut queues[at], &mut turn, faults)? {
                self.first = (at + 1) % count;
                // A counter that is full rings as well.
                let _ = self.event.write(1);
                return Ok(());
            }
        }
        self.flush_if_due();
        Ok(())
    }

    fn reset(&mut self) {
        self.write_through = true;
        self.flush_if_due();
    }
}

impl Drop for Blk {
    /// The machine ends: what the guest has written is not to be lost with the host's power.
    fn drop(&mut self) {
        self.flush_for_user();
    }
}

#[cfg(test)]
mod tests;
