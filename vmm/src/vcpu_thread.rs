//! The threads that run the vCPUs, and the machine's grip on them.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use devices::action::Action;

use crate::gate::Gate;
use crate::kvm::kick::{ExitFlag, Kicker};
use crate::kvm::vcpu::{Exit, Vcpu};
use crate::machine::{VcpuInfo, VcpuPlace};
use crate::news::{News, NewsSender};
use crate::starvation::Starvation;

/// How long all vCPUs together may take to leave the guest. They need microseconds; a device's register write may make
/// one of them wait for a worker, never for longer than this.
const STOP_DEADLINE: Duration = Duration::from_secs(5);

/// All vCPU threads of a machine. They start parked.
#[derive(Debug)]
pub struct VcpuThreads {
    gate: Arc<Gate>,
    kickers: Vec<Kicker>,
    infos: Vec<VcpuInfo>,
    // Held so that no thread's id is used again while its kicker lives.
    threads: Vec<JoinHandle<()>>,
}

impl VcpuThreads {
    /// Starts a thread for each vCPU, named as in QEMU. `place` says where a vCPU is in the guest.
    pub fn spawn(
        vcpus: Vec<(Vcpu, ExitFlag)>,
        place: impl Fn(u8) -> VcpuPlace,
        news: &NewsSender,
    ) -> io::Result<VcpuThreads> {
        let gate = Arc::new(Gate::default());
        let (mut kickers, mut infos, mut threads) = (Vec::new(), Vec::new(), Vec::new());
        for (vcpu, flag) in vcpus {
            let index = vcpu.index();
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
                        run(vcpu, &gate, &news);
                    }
                    drop(guard);
                })?;
            let tid = tid.recv().map_err(io::Error::other)?;
            infos.push(VcpuInfo {
                index,
                thread_id: tid.as_raw_nonzero().get(),
                place: place(index),
            });
            kickers.push(Kicker::new(flag, &thread));
            threads.push(thread);
        }
        Ok(VcpuThreads {
            gate,
            kickers,
            infos,
            threads,
        })
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

fn run(mut vcpu: Vcpu, gate: &Gate, news: &NewsSender) {
    let index = vcpu.index();
    let mut exit = Exit::Interrupted;
    loop {
        let last = match exit {
            Exit::Continue => None,
            Exit::Interrupted | Exit::Action(Action::None) => {
                let mut stopped = false;
                let released = || {
                    vcpu.clear_exit_request();
                    stopped = true;
                };
                if !gate.pass(released) {
                    return;
                }
                if stopped {
                    vcpu.clock_stopped();
                }
                None
            }
            Exit::Action(Action::Reset) => Some(News::GuestReset),
            Exit::Action(Action::PowerOff) => Some(News::GuestPowerOff),
            Exit::MissingMemory(address) => Some(News::Starved(Starvation::of_vcpu(index, address))),
            Exit::Failed(reason) => Some(News::VcpuFailed { vcpu: index, reason }),
        };
        exit = match last {
            None => vcpu.run(),
            Some(last) => {
                // The others are stopped by the main loop; this one stops here.
                gate.halt();
                news.send(last);
                Exit::Interrupted
            }
        };
    }
}
