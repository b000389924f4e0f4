//! What a distribution's programs get done that take, lock and remap memory, by the pages behind their guest.
//!
//! The method is that of studies of huge pages: stress-ng tells how fast it is in a guest on each kind of memory.
//! Six guests live at once, one of each VMM on each kind, and take turns.

use std::path::Path;
use std::process::ChildStdin;
use std::time::Duration;

use super::machine::{BOTH, PAIRS, Vmm};
use super::pairs;
use super::report::Report;
use crate::harness::backing::{HUGE_PAGE, ID};
use crate::harness::hugepages::ALL_2M;
use crate::harness::knob::Knob;
use crate::harness::shell::Shell;
use crate::harness::vm::{Launch, Vm};
use crate::harness::{Error, Result, names};

/// Memory behind a guest.
struct Backend {
    name: &'static str,
    object: &'static str,
    /// What the host says of transparent huge pages while such a guest starts, and takes all its memory.
    transparent: &'static str,
    /// The field of smaps that counts these pages, if they are huge.
    field: Option<&'static str>,
}

const BACKENDS: [Backend; 3] = [
    Backend {
        name: "4k",
        object: "memory-backend-ram",
        transparent: "never",
        field: None,
    },
    Backend {
        name: "thp",
        object: "memory-backend-ram",
        transparent: "always",
        field: Some("AnonHugePages"),
    },
    Backend {
        name: "2m",
        object: "memory-backend-memfd,hugetlb=on,hugetlbsize=2M",
        transparent: "never",
        field: Some("Private_Hugetlb"),
    },
];

/// A program that works on memory.
struct Stressor {
    name: &'static str,
    unit: &'static str,
    /// Whose rate is told: a call that stress-ng times itself. Without one, it is that of its operations, where they are small;
    /// one of remap's may take as long as a whole run in an emulated host.
    call: Option<&'static str>,
}

const STRESSORS: [Stressor; 3] = [
    Stressor {
        name: "malloc",
        unit: "ops/s",
        call: None,
    },
    Stressor {
        name: "mlock",
        unit: "calls/s",
        call: None,
    },
    Stressor {
        name: "remap",
        unit: "pages/s",
        call: Some("page remap"),
    },
];
/// How many processes of each.
const PROCESSES: [u32; 2] = [1, 4];
/// RAM of a guest, in MiB.
const RAM: u64 = 640;
/// How long a guest may take to boot.
const BOOT: Duration = Duration::from_secs(300);
/// How long a stressor runs, in seconds, how long its answer may take, and how long all rounds may take.
const SECONDS: u32 = 2;
const ANSWER: Duration = Duration::from_secs(120);
const ROUNDS: Duration = Duration::from_secs(120);
/// How often a stressor is tried: where the host stalls, its time may be over before its first call.
const TRIES: u32 = 3;
const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
/// The first program is a shell: services would be measured too. Nobody checks or writes to the disk, which all guests share.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 quiet root=/dev/vda1 ro fastboot init=/bin/sh";

/// Only the answers shall come, and nobody may lock more than so many KiB.
const PREPARE: &str = "dmesg -n 1; ulimit -l 8192";
/// That limit would not hold for who may lock all: each process of mlock would lock all its 170 MiB first, four of them more
/// than the guest has.
const LIMITED: &str = "setpriv --bounding-set -ipc_lock";

/// A guest that waits for commands.
struct Guest {
    _vm: Vm,
    shell: Shell<ChildStdin>,
}

/// Stressors, and how many processes there are of each.
fn cases() -> impl Iterator<Item = (&'static Stressor, u32)> {
    STRESSORS
        .iter()
        .flat_map(|stressor| PROCESSES.map(|processes| (stressor, processes)))
}

/// Measures.
pub fn measure(report: &mut Report<'_>) -> Result<()> {
    let _pool = ALL_2M.set(2 * RAM * (1 << 20) / HUGE_PAGE)?;
    // Nobody shall make huge pages of base pages later.
    let _never = Knob::set(Path::new(TRANSPARENT), "never")?;
    let mut guests = Vec::new();
    for backend in &BACKENDS {
        let _transparent = Knob::set(Path::new(TRANSPARENT), backend.transparent)?;
        // Both boot at once.
        let [ours, theirs] = BOTH.map(|vmm| launch(vmm, backend).start());
        let [ours, theirs] = [ours?, theirs?].map(|vm| prompted(vm, backend));
        guests.push([ours?, theirs?]);
        report.note(&format!("hugepages: two guests on {}", backend.name));
    }
    let rounds = pairs::rounds(PAIRS, ROUNDS, |round| {
        let mut figures = Vec::new();
        for (stressor, processes) in cases() {
            for pair in &mut guests {
                figures.push(take(pair, round, stressor, processes)?);
            }
        }
        report.note(&format!("hugepages: round {} is done", round + 1));
        Ok(figures)
    })?;
    for (case, (stressor, processes)) in cases().enumerate() {
        let of = |backend: usize| -> Vec<(f64, f64)> {
            let place = case * BACKENDS.len() + backend;
            rounds
                .iter()
                .filter_map(|round| round.get(place).copied())
                .collect()
        };
        let base = of(0);
        for (place, backend) in BACKENDS.iter().enumerate() {
            let name = format!("hugepages.{}.{processes}.{}", stressor.name, backend.name);
            report.pairs(&name, stressor.unit, &of(place));
            if backend.field.is_some() {
                let ours = of(place).into_iter().zip(&base);
                let gains: Vec<_> = ours.map(|(huge, base)| (huge.0, base.0)).collect();
                report.pairs_with("4 KiB", &format!("{name}-gain"), stressor.unit, &gains);
            }
        }
    }
    Ok(())
}

fn prompted(mut vm: Vm, backend: &Backend) -> Result<Guest> {
    let shell = Shell::prompted(vm.console()?, BOOT).map_err(|error| vm.explain(error))?;
    behind(&vm, backend)?;
    let mut guest = Guest { _vm: vm, shell };
    guest.shell.exec(PREPARE, ANSWER)?;
    Ok(guest)
}

/// Sees to it that all of a guest's RAM is there, in pages of the kind that is to be measured.
fn behind(vm: &Vm, backend: &Backend) -> Result<()> {
    let memory = vm.memory()?;
    let field = backend.field.unwrap_or("AnonHugePages");
    let huge: u64 = memory.iter().map(|mapping| mapping.field(field)).sum();
    let (all, most) = (RAM << 20, (RAM << 20) / 10 * 9);
    let as_asked = if backend.field.is_some() {
        huge >= most
    } else {
        huge <= all - most
    };
    let resident = vm.resident()?;
    if as_asked && resident >= most {
        return Ok(());
    }
    let what = format!(
        "guest of {all} bytes on {}, but {resident} with {huge} in {field}",
        backend.name
    );
    Err(Error::Format {
        path: format!("/proc/{}/smaps", vm.pid()).into(),
        what,
    })
}

fn launch(vmm: Vmm, backend: &Backend) -> Launch {
    let object = format!("{},id={ID},size={RAM}M,prealloc=on", backend.object);
    let drive = format!(
        "file={},format=qcow2,if=none,id=d,readonly=on",
        names::DISTRIBUTION
    );
    let (kernel, initramfs) = (names::DISTRIBUTION_KERNEL, names::DISTRIBUTION_INITRD);
    vmm.boots(kernel, initramfs, COMMAND_LINE)
        .args(["-object", &object, "-machine", &format!("memory-backend={ID}")])
        .args(["-m", &format!("{RAM}M"), "-smp", "2"])
        .args(["-drive", &drive, "-device", "virtio-blk-pci,drive=d"])
}

/// One stressor in both guests of a kind; who comes first alternates.
fn take(pair: &mut [Guest; 2], round: usize, stressor: &Stressor, processes: u32) -> Result<(f64, f64)> {
    let [ours, theirs] = pair;
    let run = |guest: &mut Guest| stress(guest, stressor, processes);
    Ok(if round.is_multiple_of(2) {
        let ours = run(ours)?;
        (ours, run(theirs)?)
    } else {
        let theirs = run(theirs)?;
        (run(ours)?, theirs)
    })
}

fn stress(guest: &mut Guest, stressor: &Stressor, processes: u32) -> Result<f64> {
    let name = stressor.name;
    let line = format!(
        "{LIMITED} stress-ng --{name} {processes} --timeout {SECONDS}s --metrics --temp-path /run 2>&1"
    );
    let mut text = String::new();
    for _ in 0..TRIES {
        text = guest.shell.exec(&line, ANSWER)?;
        if let Some(rate) = rate(&text, stressor) {
            return Ok(rate);
        }
    }
    Err(Error::Connection(format!("no figures of {name} in {text}")))
}

/// What stress-ng says of a stressor, as a rate. Behind the name stand either operations, real, user's and system's time, and
/// operations by real time, or the nanoseconds that each of its calls took.
fn rate(text: &str, stressor: &Stressor) -> Option<f64> {
    let mut lines = text
        .lines()
        .filter_map(|line| line.split_once("metrc:")?.1.split_once(']'))
        .filter_map(|(_, figures)| {
            figures
                .trim_start()
                .strip_prefix(stressor.name)?
                .strip_prefix(' ')
        });
    let figure = |line: &str, place| line.split_whitespace().nth(place)?.parse::<f64>().ok();
    let rate = match stressor.call {
        None => figure(lines.next()?, 4)?,
        Some(call) => {
            let call = format!(" nanosecs per {call} ");
            1e9 / figure(lines.find(|line| line.contains(&call))?, 0)?
        }
    };
    (rate.is_normal() && rate > 0.0).then_some(rate)
}

#[cfg(test)]
mod tests;
