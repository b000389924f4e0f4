//! The threads that run the vCPUs, and the machine's grip on them.

use std::io;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use devices::action::Action;

use crate::gate::{Gate, Hurry};
use crate::kvm::kick::{ExitFlag, Kicker};
use crate::kvm::vcpu::{Exit, Vcpu};
use crate::machine::{VcpuInfo, VcpuPlace};
use crate::news::{News, NewsSender};
use crate::starvation::broken::Action as BrokenAction;
use crate::starvation::{Starvation, Witness};

/// How long all vCPUs together may take to leave the guest. They need microseconds; a device's register write may make
/// one of them wait for a worker, never for longer than this.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// A vCPU and its way out of the guest for others.
pub type Kickable = (Vcpu, ExitFlag);

/// Where a thread has its vCPU. The thread holds the lock while it is not parked.
#[derive(Debug, Default)]
struct Seat(Mutex<Option<Vcpu>>);

impl Seat {
    fn lock(&self) -> MutexGuard<'_, Option<Vcpu>> {
        // A thread that panicked with its vCPU never parks again, so that nobody gets this far with what it left.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All vCPU threads of a machine. They start parked.
#[derive(Debug)]
pub struct VcpuThreads {
    gate: Arc<Gate>,
    seats: Vec<Arc<Seat>>,
    kickers: Vec<Kicker>,
    infos: Vec<VcpuInfo>,
    // Held so that no thread's id is used again while its kicker lives.
    threads: Vec<JoinHandle<()>>,
}

impl VcpuThreads {
    /// Starts a thread for each of so many vCPUs, named as in QEMU; they get them by [`VcpuThreads::seat`]. `place` says where a
    /// vCPU is in the guest. Their stops put those who wait for them in a `hurry`.
    pub fn spawn(
        vcpus: u8,
        place: impl Fn(u8) -> VcpuPlace,
        hurry: Hurry,
        news: &NewsSender,
    ) -> io::Result<VcpuThreads> {
        let gate = Arc::new(Gate::new(hurry));
        let mut seats = Vec::new();
        let (mut kickers, mut infos, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..vcpus {
            let seat = Arc::new(Seat::default());
            seats.push(Arc::clone(&seat));
            let (told, tid) = mpsc::channel();
            let (gate, news) = (gate.clone(), news.clone());
            let thread = thread::Builder::new()
                .name(format!("CPU {index}/KVM"))
                .spawn(move || {
                    let guard = PanicNews {
                        index,
                        news: news.clone(),
                    };
                    // The receiver is gone only when spawning failed, and then this thread is not needed either.
                    if told.send(rustix::thread::gettid()).is_ok() {
                        run(index, &seat, &gate, &news);
                    }
                    drop(guard);
                })?;
            let tid = tid.recv().map_err(io::Error::other)?;
            infos.push(VcpuInfo {
                index,
                thread_id: tid.as_raw_nonzero().get(),
                place: place(index),
            });
            kickers.push(Kicker::new(&thread));
            threads.push(thread);
        }
        Ok(VcpuThreads {
            gate,
            seats,
            kickers,
            infos,
            threads,
        })
    }

    /// Takes the vCPUs away from their threads, which are parked; [`VcpuThreads::seat`] is to follow before they run again.
    pub fn vacate(&mut self) -> Vec<Vcpu> {
        self.kickers.iter_mut().for_each(|kicker| kicker.set_vcpu(None));
        self.seats.iter().filter_map(|seat| seat.lock().take()).collect()
    }

    /// Gives each of the threads, which are parked, a vCPU.
    pub fn seat(&mut self, vcpus: Vec<Kickable>) {
        for ((seat, kicker), (vcpu, flag)) in self.seats.iter().zip(&mut self.kickers).zip(vcpus) {
            *seat.lock() = Some(vcpu);
            kicker.set_vcpu(Some(flag));
        }
    }

    /// Index and thread id of each vCPU.
    pub fn infos(&self) -> &[VcpuInfo] {
        &self.infos
    }

    /// Lets the vCPUs run.
    pub fn resume(&self) {
        self.gate.open();
    }

    /// Gets all vCPUs out of the guest. False when one does not come; it will not go back in, though.
    pub fn pause(&self) -> bool {
        self.gate.shut(&self.kickers, STOP_DEADLINE)
    }
}

impl Drop for VcpuThreads {
    /// Waits until the threads have let go of the guest's memory, as long as a stop may take: a file that has to be emptied is
    /// emptied by the last who holds it, and that must not be a thread that the end of the process overtakes.
    fn drop(&mut self) {
        self.gate.remove();
        self.kickers.iter().for_each(Kicker::kick);
        let deadline = Instant::now() + STOP_DEADLINE;
        while !self.threads.iter().all(JoinHandle::is_finished) {
            if Instant::now() > deadline {
                tracing::warn!("a vCPU's thread did not end in time");
                return;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Tells of a vCPU thread that ends by a panic: a bug of ours, but the main loop must not wait for ever.
struct PanicNews {
    index: u8,
    news: NewsSender,
}

impl Drop for PanicNews {
    fn drop(&mut self) {
        if thread::panicking() {
            let reason = "its thread panicked: this is a bug in Ballast".to_owned();
            self.news.send(News::VcpuFailed {
                vcpu: self.index,
                reason,
            });
        }
    }
}

fn run(index: u8, seat: &Seat, gate: &Gate, news: &NewsSender) {
    loop {
        let mut stopped = false;
        let released = || {
            if let Some(vcpu) = &mut *seat.lock() {
                vcpu.clear_exit_request();
            }
            stopped = true;
        };
        if !gate.pass(released) {
            return;
        }
        let mut seated = seat.lock();
        let last = seated.as_mut().and_then(|vcpu| {
            if stopped {
                vcpu.clock_stopped();
            }
            run_guest(index, vcpu, news)
        });
        let vacant = seated.is_none();
        drop(seated);
        if vacant || last.is_some() {
            // The others are stopped by the main loop; this one stops here.
            gate.halt();
        }
        if let Some(last) = last {
            news.send(last);
        }
    }
}

/// Runs the guest until somebody wants the thread to look at its gate, or the guest can go no further: then it says why.
fn run_guest(index: u8, vcpu: &mut Vcpu, news: &NewsSender) -> Option<News> {
    loop {
        return Some(match vcpu.run() {
            Exit::Continue | Exit::Action(Action::None) => continue,
            Exit::Interrupted => return None,
            Exit::Action(Action::Reset) => News::GuestReset,
            Exit::Action(Action::Panicked) => News::GuestPanicked { crash_loaded: false },
            Exit::Action(Action::CrashLoaded) => News::GuestPanicked { crash_loaded: true },
            Exit::TripleFault => News::TripleFault { vcpu: index },
            Exit::Action(Action::PowerOff) => News::GuestPowerOff,
            Exit::MissingMemory(address) => News::Starved(Starvation::new(Witness::Vcpu(index), address)),
            Exit::BrokenMemory(broken) if broken.action() == BrokenAction::Inject => {
                news.send(News::BrokenMemory(broken));
                continue;
            }
            Exit::BrokenMemory(broken) => News::BrokenMemory(broken),
            Exit::Failed(reason) => News::VcpuFailed { vcpu: index, reason },
        });
    }
}
