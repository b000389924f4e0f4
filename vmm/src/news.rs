//! What other threads tell the main loop: a channel, and an eventfd that wakes the loop.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use devices::virtio::balloon::BalloonNews;
use memory::ram::PreallocReport;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

use crate::build;
use crate::sampler::Sampled;
use crate::starvation::Starvation;
use crate::starvation::broken::BrokenMemory;
use crate::vcpu_thread::Kickable;

/// Something that happened outside the main thread.
#[derive(Debug)]
pub enum News {
    /// The guest asked for a reset.
    GuestReset,
    /// The guest reset itself by a triple fault.
    TripleFault {
        /// Index of the vCPU.
        vcpu: u8,
    },
    /// The guest's kernel has panicked; or it has, and another one that it kept is about to run.
    GuestPanicked {
        /// There is another one.
        crash_loaded: bool,
    },
    /// The guest turned itself off.
    GuestPowerOff,
    /// A vCPU or a device needs a page that the host cannot supply.
    Starved(Starvation),
    /// The guest touched a page whose memory is broken.
    BrokenMemory(BrokenMemory),
    /// A vCPU cannot go on; the text says why.
    VcpuFailed {
        /// Index of the vCPU.
        vcpu: u8,
        /// What happened, for a person.
        reason: String,
    },
    /// The balloon has something to tell.
    Balloon(BalloonNews),
    /// A preallocation has ended.
    Prealloc(PreallocReport),
    /// What the host holds was read.
    Sampled(Sampled),
    /// The start is over, with these vCPUs; or it has failed.
    Started(Result<Vec<Kickable>, build::Error>),
    /// The machine is as after power-on, with these vCPUs; or it could not be brought there.
    Reset(Result<Vec<Kickable>, build::Error>),
}

impl News {
    /// Whether a vCPU tells it of itself. All that they have told before they were parked comes before what is sent later.
    pub fn is_of_vcpu(&self) -> bool {
        match self {
            News::GuestReset
            | News::TripleFault { .. }
            | News::GuestPanicked { .. }
            | News::GuestPowerOff
            | News::Starved(_)
            | News::BrokenMemory(_)
            | News::VcpuFailed { .. } => true,
            News::Balloon(_) | News::Prealloc(_) | News::Sampled(_) | News::Started(_) | News::Reset(_) => {
                false
            }
        }
    }
}

/// The sending half; every thread has its own.
#[derive(Clone, Debug)]
pub struct NewsSender {
    channel: Sender<News>,
    wake: Arc<EventFd>,
}

impl NewsSender {
    /// Hands `news` to the main loop. When the loop is gone the machine is ending, and nobody needs the news.
    pub fn send(&self, news: News) {
        if self.channel.send(news).is_ok() && self.wake.write(1).is_err() {
            // EAGAIN: the counter is full, so the loop is awake already.
            tracing::trace!("the main loop was already woken");
        }
    }
}

/// The receiving half, owned by the main loop.
#[derive(Debug)]
pub struct NewsReceiver {
    channel: Receiver<News>,
    wake: Arc<EventFd>,
}

impl NewsReceiver {
    /// The eventfd to wait on.
    pub fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// All news there is now.
    pub fn drain(&self) -> Vec<News> {
        // An empty counter (EAGAIN) only means that there may be no news.
        let _ = self.wake.read();
        self.channel.try_iter().collect()
    }
}

/// A new channel.
pub fn channel() -> io::Result<(NewsSender, NewsReceiver)> {
    let wake = Arc::new(EventFd::new(EFD_NONBLOCK)?);
    let (sender, receiver) = mpsc::channel();
    Ok((
        NewsSender {
            channel: sender,
            wake: wake.clone(),
        },
        NewsReceiver {
            channel: receiver,
            wake,
        },
    ))
}
