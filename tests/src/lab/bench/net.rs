//! Network cards at full speed: one TCP connection between a guest and the host, over a tap interface, and what that costs the host.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::machine::{BOTH, Guest, Vmm};
use super::pairs::{self, Contest};
use super::report::Report;
use crate::agent::disk::Done;
use crate::agent::stream::{Stream, Way};
use crate::harness::{Error, Result};

/// How long one measurement takes, and how long all of a kind may.
const MILLISECONDS: u64 = 1500;
const ROUNDS: Duration = Duration::from_secs(20);

/// What is done, the unit in which its rate is told, how many of it that is, and the unit of which the cost is told.
const LOADS: [(&str, Way, &str, f64, &str); 3] = [
    ("send", Way::Send, "MiB/s", 1_048_576.0, "us/MiB"),
    ("receive", Way::Receive, "MiB/s", 1_048_576.0, "us/MiB"),
    ("ask", Way::Ask, "/s", 1.0, "us/answer"),
];

/// What one VMM came to.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// Units a second.
    rate: f64,
    /// Processor time of the VMM in microseconds a unit.
    cost: f64,
}

/// A tap interface that goes with its value.
#[derive(Debug)]
struct Tap {
    vmm: Vmm,
}

impl Tap {
    fn new(vmm: Vmm) -> Result<Tap> {
        let tap = Tap { vmm };
        let (name, [host, _]) = (tap.name(), tap.addresses());
        shell(&format!(
            "tunctl -t {name} >/dev/null && ip addr add {host}/24 dev {name} && ip link set {name} up"
        ))?;
        Ok(tap)
    }

    fn name(&self) -> &'static str {
        match self.vmm {
            Vmm::Ballast => "bench0",
            Vmm::Qemu => "bench1",
        }
    }

    /// The host's and the guest's.
    fn addresses(&self) -> [Ipv4Addr; 2] {
        let net = match self.vmm {
            Vmm::Ballast => 8,
            Vmm::Qemu => 9,
        };
        [1, 2].map(|end| Ipv4Addr::new(10, 7, net, end))
    }

    /// What this VMM wants to hear. QEMU would look for a boot ROM, which the guest has no use for.
    fn card(&self) -> String {
        let name = self.name();
        let (script, rom) = match self.vmm {
            Vmm::Ballast => ("", ""),
            Vmm::Qemu => (",downscript=no", ",romfile="),
        };
        format!("-netdev tap,id=n,ifname={name},script=no{script} -device virtio-net-pci,netdev=n{rom}")
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        shell(&format!("tunctl -d {} >/dev/null", self.name())).ok();
    }
}

/// Measures.
pub fn measure(report: &mut Report<'_>) -> Result<()> {
    let taps = [Tap::new(BOTH[0])?, Tap::new(BOTH[1])?];
    let tap = |vmm| if vmm == taps[0].vmm { &taps[0] } else { &taps[1] };
    let mut contest = Contest::of(|vmm| boot(tap(vmm)))?;
    for (name, way, unit, many, each) in LOADS {
        let pairs = contest.pairs(ROUNDS, |vmm, guest| take(tap(vmm), guest, way, many))?;
        let name = format!("net.{name}");
        pairs::report(report, &name, unit, &pairs, |taken| taken.rate);
        pairs::report(report, &format!("{name}-cpu"), each, &pairs, |taken| taken.cost);
    }
    Ok(())
}

fn boot(tap: &Tap) -> Result<Guest> {
    let launch = tap.vmm.stock().line("-m 256M -smp 1").line(&tap.card());
    let mut guest = Guest::boot(launch, 1)?;
    let [host, own] = tap.addresses();
    guest.agent.exec(&format!(
        "ip addr add {own}/24 dev eth0 && ip link set eth0 up && ping -c 1 -W 10 {host}"
    ))?;
    Ok(guest)
}

fn take(tap: &Tap, guest: &mut Guest, way: Way, many: f64) -> Result<Taken> {
    let stream = Stream {
        way,
        milliseconds: MILLISECONDS,
    };
    let [host, _] = tap.addresses();
    let failed = |error: io::Error| Error::Connection(format!("{}: {error}", tap.name()));
    let listener = TcpListener::bind((host, 0)).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let before = guest.threads.spent()?;
    let server = thread::spawn(move || stream.serve(listener.accept()?.0));
    // A guest that does not come leaves the server waiting, until the process ends with this error.
    let Done { blocks, took } = guest.agent.stream(address, stream)?;
    let served = server.join();
    let spent = guest.threads.spent()?.since(before).host();
    served
        .unwrap_or_else(|_| Err(io::Error::other("the host's end panicked")))
        .map_err(failed)?;
    #[expect(clippy::cast_precision_loss, reason = "far less than 2^52")]
    let units = (blocks as f64 / many).max(1.0);
    Ok(Taken {
        rate: units / took.as_secs_f64(),
        cost: spent.as_secs_f64() * 1e6 / units,
    })
}

fn shell(line: &str) -> Result<()> {
    let run = |source| Error::Run {
        program: line.to_owned(),
        source,
    };
    let output = Command::new("sh").args(["-c", line]).output().map_err(run)?;
    match output.status.success() {
        true => Ok(()),
        false => Err(run(io::Error::other(
            String::from_utf8_lossy(&output.stderr).into_owned(),
        ))),
    }
}
