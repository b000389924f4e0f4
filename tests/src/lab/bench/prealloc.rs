//! How fast memory is taken at the start, on the machine itself: in an emulated lab host this would be a benchmark of the
//! emulator. No guest runs, so a software KVM will do.
//!
//! Three take turns: a bare loop over MADV_POPULATE_WRITE ([`super::populate`]), Ballast and QEMU. Each is watched from
//! outside in the same way: how much the host holds for it, once a millisecond. Against the loop the rate counts from the
//! first page to the last, against QEMU the whole time from exec to the last page, as its users wait for it.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::thread::{
    CpuSet, disable_transparent_huge_pages, sched_getaffinity, sched_setaffinity,
    transparent_huge_pages_are_disabled,
};

use super::pairs;
use super::populate::{self, Page};
use super::report::Report;
use super::units::gibibytes;
use crate::harness::backing::HUGE_PAGE;
use crate::harness::hugepages::ALL_2M;
use crate::harness::knob::Kept;
use crate::harness::maps;
use crate::harness::{Error, Result};
use crate::lab::qemu;

/// How much is taken, in bytes. A virtual machine may give its free memory back to its own host meanwhile (free page reporting),
/// and pays for it at the next touch: little memory taken often tells more than much taken rarely.
const SIZE: u64 = 512 << 20;
/// How often each takes it.
const TIMES: usize = 21;
/// How many threads populate.
const THREADS: [(usize, &str); 2] = [(1, "1-thread"), (2, "2-threads")];
/// How long the rounds of one kind of page and number of threads may take.
const ROUNDS: Duration = Duration::from_secs(30);
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked at.
const GLANCE: Duration = Duration::from_millis(1);
/// The kernel counts resident pages in lots, so that some may be missing at the end.
const UNSURE: u64 = 1 << 20;
/// Held by whoever changes this machine's settings; unit tests do.
const HOST_LOCK: &str = "/tmp/ballast-host.lock";
const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Who takes memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Contestant {
    Loop,
    Ballast,
    Qemu,
}

/// GiB a second.
#[derive(Clone, Copy, Debug)]
struct Rates {
    /// From the first page to the last.
    populating: f64,
    /// From exec to the last page.
    whole: f64,
}

/// One run of each.
#[derive(Clone, Copy, Debug)]
struct Round {
    bare: Rates,
    ours: Rates,
    qemu: Rates,
}

/// The programs, and a kernel, which Ballast wants to see before it takes memory.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Ballast.
    pub ballast: PathBuf,
    /// The lab itself, for the loop.
    pub lab: PathBuf,
    /// Any kernel.
    pub kernel: PathBuf,
}

/// Measures.
pub fn measure(programs: &Programs, report: &mut Report<'_>) -> Result<()> {
    let kvm = Path::new("/dev/kvm");
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(kvm)
        .map_err(Error::file("open", kvm))?;
    enough()?;
    report.note(&format!("prealloc: {} MiB on this machine", SIZE >> 20));
    for page in populate::PAGES {
        if page == Page::Transparent && !transparent()? {
            report.note("prealloc: this machine has transparent huge pages switched off: not measured");
            continue;
        }
        let _pool = match page {
            Page::Huge => Some(pool()?),
            Page::Base | Page::Transparent => None,
        };
        for (threads, name) in THREADS {
            let rounds = rounds(programs, page, threads)?;
            let area = format!("prealloc.{page}.{name}");
            let of = |pick: fn(&Round) -> (f64, f64)| rounds.iter().map(pick).collect::<Vec<_>>();
            let bare = of(|round| (round.ours.populating, round.bare.populating));
            report.pairs_with("bare loop", &format!("{area}.loop"), "GiB/s", &bare);
            let qemu = of(|round| (round.ours.whole, round.qemu.whole));
            report.pairs(&format!("{area}.qemu"), "GiB/s", &qemu);
        }
    }
    Ok(())
}

/// Whether this machine gives transparent huge pages to those who ask for them.
fn transparent() -> Result<bool> {
    let path = Path::new(THP);
    let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
    Ok(!text.contains("[never]"))
}

/// Adds what one takes to the pool of huge pages, and keeps tests that change it away.
fn pool() -> Result<(Kept, File)> {
    let path = Path::new(HOST_LOCK);
    let lock = File::create(path).and_then(|file| file.lock().map(|()| file));
    let lock = lock.map_err(Error::file("lock", path))?;
    Ok((ALL_2M.keep(ALL_2M.pages()?.total + SIZE / HUGE_PAGE)?, lock))
}

/// What is taken has to be a small part of what there is.
fn enough() -> Result<()> {
    let path = Path::new("/proc/meminfo");
    let text = std::fs::read_to_string(path).map_err(Error::file("read", path))?;
    let memory = crate::agent::Memory::from_meminfo(&text).ok_or_else(|| Error::Format {
        path: path.to_owned(),
        what: "MemAvailable".into(),
    })?;
    if memory.available >= 4 * SIZE {
        return Ok(());
    }
    Err(Error::Connection(format!(
        "{} MiB of memory are too few to measure with",
        memory.available >> 20
    )))
}

/// Who comes first alternates, because what one gives back is the next one's.
fn rounds(programs: &Programs, page: Page, threads: usize) -> Result<Vec<Round>> {
    let run = |who| run(command(programs, who, page, threads), page, threads);
    // Memory that was given back is very slow at its first touch.
    run(Contestant::Loop)?;
    pairs::rounds(TIMES, ROUNDS, |round| {
        Ok(if round.is_multiple_of(2) {
            let (bare, ours) = (run(Contestant::Loop)?, run(Contestant::Ballast)?);
            let qemu = run(Contestant::Qemu)?;
            Round { bare, ours, qemu }
        } else {
            let (qemu, ours) = (run(Contestant::Qemu)?, run(Contestant::Ballast)?);
            let bare = run(Contestant::Loop)?;
            Round { bare, ours, qemu }
        })
    })
}

/// A process that is killed when it is no longer looked at.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Starts one, watches it until everything is there, and kills it.
fn run(mut command: Command, page: Page, threads: usize) -> Result<Rates> {
    let program = command.get_program().to_string_lossy().into_owned();
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let failed = |source| Error::Run {
        program: program.clone(),
        source,
    };
    let unused = ALL_2M.pages()?.free;
    let start = Instant::now();
    let mut spawn = || on(threads, || command.spawn());
    // QEMU always asks for huge pages, so the others do too, and where none are wanted all are denied them.
    let child = if page == Page::Base {
        without_huge_pages(spawn)??
    } else {
        spawn()?
    };
    let mut child = Running(child.map_err(failed)?);
    let mut first = None;
    loop {
        let held = match page {
            Page::Base | Page::Transparent => maps::statm_resident(child.0.id()).unwrap_or(0),
            Page::Huge => unused.saturating_sub(ALL_2M.pages()?.free) * HUGE_PAGE,
        };
        let now = start.elapsed();
        if first.is_none() && held > SIZE / 32 {
            first = Some((now, held));
        }
        if held + UNSURE >= SIZE {
            let (since, already) = first.unwrap_or((Duration::ZERO, 0));
            return Ok(Rates {
                populating: gibibytes(SIZE - already)? / (now - since).max(GLANCE).as_secs_f64(),
                whole: gibibytes(SIZE)? / now.as_secs_f64(),
            });
        }
        if child.0.try_wait().map_err(failed)?.is_some() || now > PATIENCE {
            return Err(Error::Ended {
                what: format!("{program} held {SIZE} bytes in pages of {page}"),
                seen: format!("{held} bytes; {}", last_words(&mut child.0)),
            });
        }
        thread::sleep(GLANCE);
    }
}

fn last_words(child: &mut Child) -> String {
    child.kill().ok();
    let mut text = String::new();
    if let Some(mut errors) = child.stderr.take() {
        std::io::Read::read_to_string(&mut errors, &mut text).ok();
    }
    text
}

fn command(programs: &Programs, who: Contestant, page: Page, threads: usize) -> Command {
    let object = match page {
        Page::Transparent if who == Contestant::Ballast => "memory-backend-ram,thp=on",
        Page::Base | Page::Transparent => "memory-backend-ram",
        Page::Huge => "memory-backend-memfd,hugetlb=on,hugetlbsize=2M",
    };
    let memory = format!("{object},id=mem0,size={}M,prealloc=on", SIZE >> 20);
    let mebibytes = format!("{}M", SIZE >> 20);
    let mut command;
    match who {
        Contestant::Loop => {
            command = Command::new(&programs.lab);
            command.args([
                populate::COMMAND,
                page.name(),
                &SIZE.to_string(),
                &threads.to_string(),
            ]);
        }
        Contestant::Ballast => {
            command = Command::new(&programs.ballast);
            command.args([
                "run", "-S", "-serial", "none", "-m", &mebibytes, "-object", &memory,
            ]);
            command
                .args(["-machine", "memory-backend=mem0", "-kernel"])
                .arg(&programs.kernel);
        }
        Contestant::Qemu => {
            command = Command::new(qemu::PROGRAM);
            command.args([
                "-M",
                "microvm,memory-backend=mem0",
                "-accel",
                "tcg",
                "-S",
                "-m",
                &mebibytes,
            ]);
            command.args(["-nodefaults", "-no-user-config", "-display", "none", "-object"]);
            command.arg(format!("{memory},prealloc-threads={threads}"));
        }
    }
    command
}

/// Does something without transparent huge pages; what it starts never has any (prctl(2), PR_SET_THP_DISABLE).
fn without_huge_pages<T>(action: impl FnOnce() -> T) -> Result<T> {
    let failed = |error| failed("something without transparent huge pages".into(), error);
    let before = transparent_huge_pages_are_disabled().map_err(failed)?;
    disable_transparent_huge_pages(true).map_err(failed)?;
    let result = action();
    disable_transparent_huge_pages(before).map_err(failed)?;
    Ok(result)
}

/// Does something on so many processors of ours; what it starts stays there. Ballast populates with as many threads.
fn on<T>(processors: usize, action: impl FnOnce() -> T) -> Result<T> {
    let failed = |error| failed(format!("something on {processors} processors"), error);
    let before = sched_getaffinity(None).map_err(failed)?;
    let mut some = CpuSet::new();
    let ours = (0..CpuSet::MAX_CPU).filter(|cpu| before.is_set(*cpu));
    ours.take(processors).for_each(|cpu| some.set(cpu));
    sched_setaffinity(None, &some).map_err(failed)?;
    let result = action();
    sched_setaffinity(None, &before).map_err(failed)?;
    Ok(result)
}

fn failed(program: String, error: Errno) -> Error {
    Error::Run {
        program,
        source: error.into(),
    }
}
