//! The lab host: one QEMU machine that runs one job.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::io::{FdFlags, fcntl_setfd};

use super::choice::Place;
use super::image::{self, Contents};
use super::stock::Stock;
use super::{Error, Result, process};
use crate::agent::Memory;
use crate::job::{PORT_ERROR, PORT_OUTPUT, PORT_STATUS};

/// The machine: two nodes of 4 GiB, of which only what is touched is taken, and a socket on each: Linux warns of processors
/// that share a cache and not a node. KSM of this machine, which tests of units have run, leaves it alone.
const MACHINE: [&str; 14] = [
    "-m",
    "8G",
    "-smp",
    "2,sockets=2",
    "-object",
    "memory-backend-ram,id=m0,size=4G,merge=off",
    "-object",
    "memory-backend-ram,id=m1,size=4G,merge=off",
    "-numa",
    "node,memdev=m0,cpus=0",
    "-numa",
    "node,memdev=m1,cpus=1",
    "-nodefaults",
    "-no-reboot",
];
/// The emulated processor. Without XSAVE: QEMU's SVM does not intercept XSETBV, so KVM would run a guest with another XCR0
/// than it has set, and the guest would lose registers whenever it saves them. Five-level page tables would only cost time.
const EMULATED: &str = "max,+svm,+npt,phys-bits=46,-xsave,-la57";
/// Bytes of this machine's memory that a lab host may come to hold: its own, and what emulating it costs.
const COST: u64 = 9 << 30;
/// 1 GiB pages can only be had at the start. A panic ends the machine at once.
const COMMAND_LINE: &str =
    "console=ttyS0 reboot=t panic=-1 quiet mitigations=off hugepagesz=1G hugepages=0:1,1:1";
/// One processor until the lab host's first program starts the others: what the kernel patches in itself while it boots and
/// loads modules, no other processor runs. Older QEMUs translate code while it is written.
const ONE_AT_FIRST: &str = "maxcpus=1 noreplace-smp";

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ended with this status.
    Exit(u8),
    /// A signal ended it.
    Signal(i32),
    /// Its time was over; what the lab host's kernel said last.
    TimedOut(String),
    /// The lab host ended without a word about the job; what its kernel said last.
    Lost(String),
}

impl Outcome {
    /// The exit code that stands for this.
    pub fn code(&self) -> u8 {
        match self {
            Outcome::Exit(code) => *code,
            Outcome::Signal(signal) => u8::try_from(128 + signal).unwrap_or(255),
            Outcome::TimedOut(_) | Outcome::Lost(_) => 255,
        }
    }
}

/// Where the job's streams go.
#[expect(missing_debug_implementations, reason = "streams have none")]
pub struct Streams {
    /// Read by the job as its input or terminal; nothing if it gets none.
    pub input: Option<Box<dyn Read + Send>>,
    /// Takes its output, or all that it shows on its terminal.
    pub output: Box<dyn Write + Send>,
    /// Takes its error output.
    pub error: Box<dyn Write + Send>,
}

/// How many lab hosts this machine has processors and free memory for; at least one.
pub fn abreast() -> usize {
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let room = Memory::here().map_or(0, |memory| memory.available / COST);
    processors.min(usize::try_from(room).unwrap_or(usize::MAX)).max(1)
}

/// A lab host to be.
#[derive(Debug)]
pub struct Host<'a> {
    /// On KVM or emulated.
    pub place: Place,
    /// Its kernel.
    pub stock: &'a Stock,
    /// Where its kernel's messages go.
    pub log: PathBuf,
    /// How long it may run.
    pub patience: Option<Duration>,
}

impl Host<'_> {
    /// Boots the lab host with these contents and waits until its job is done.
    pub fn run(&self, contents: &Contents, streams: Streams) -> Result<Outcome> {
        let directory = self.log.parent().unwrap_or(Path::new("."));
        let image = tempfile::NamedTempFile::new_in(directory).map_err(Error::file("create", directory))?;
        image::write(self.stock, contents, image.path())?;

        let mut command = self.machine(image.path());
        let [console, error, status] = [Channel::new()?, Channel::new()?, Channel::new()?];
        if contents.job.terminal.is_some() {
            command.args(["-device", "virtconsole,chardev=ballast.out"]);
        } else {
            command.args([
                "-device",
                &format!("virtserialport,chardev={PORT_OUTPUT},name={PORT_OUTPUT}"),
            ]);
        }
        for port in [PORT_ERROR, PORT_STATUS] {
            command.args(["-device", &format!("virtserialport,chardev={port},name={port}")]);
        }
        for (name, channel) in [
            (PORT_OUTPUT, &console),
            (PORT_ERROR, &error),
            (PORT_STATUS, &status),
        ] {
            command.args([
                "-chardev",
                &format!("socket,id={name},fd={}", channel.theirs.as_raw_fd()),
            ]);
        }
        let mut child = spawn(&mut command)?;
        // While we hold QEMU's ends, ours do not end.
        let [console, error, status] = [console, error, status].map(|channel| channel.ours);
        if let Some(input) = streams.input {
            let to = console
                .try_clone()
                .map_err(Error::file("share a channel for", &self.log))?;
            // This thread ends with the process: it may wait for a key that nobody presses.
            thread::spawn(move || pump(input, to));
        }
        let output = start_pump(console, streams.output);
        let error = start_pump(error, streams.error);
        let told = thread::spawn(move || read_all(status));

        let in_time = wait(&mut child, self.patience)?;
        output.join().ok();
        error.join().ok();
        let told = told.join().unwrap_or_default();
        Ok(self.outcome(&told, in_time))
    }

    fn machine(&self, image: &Path) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        match self.place {
            Place::Direct | Place::LabKvm => command.args(["-accel", "kvm", "-cpu", "host"]),
            Place::LabTcg => command
                .args(["-accel", "tcg,thread=multi,tb-size=512"])
                .args(["-cpu", EMULATED]),
        };
        command.args(MACHINE);
        command.args([
            "-display",
            "none",
            "-monitor",
            "none",
            "-device",
            "virtio-serial-pci",
        ]);
        command.arg("-serial").arg(format!("file:{}", self.log.display()));
        command
            .arg("-kernel")
            .arg(&self.stock.image)
            .arg("-initrd")
            .arg(image)
            .arg("-append")
            .arg(match self.place {
                Place::Direct | Place::LabKvm => COMMAND_LINE.to_owned(),
                Place::LabTcg => format!("{COMMAND_LINE} {ONE_AT_FIRST}"),
            });
        command.stdin(Stdio::null());
        command
    }

    fn outcome(&self, told: &str, in_time: bool) -> Outcome {
        let last = || process::tail(&String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()));
        match told.trim().split_once(' ') {
            Some(("exit", code)) => Outcome::Exit(code.parse().unwrap_or(255)),
            Some(("signal", signal)) => Outcome::Signal(signal.parse().unwrap_or(0)),
            Some((_, text)) => Outcome::Lost(format!("{text}{}", last())),
            None if in_time => Outcome::Lost(last()),
            None => Outcome::TimedOut(last()),
        }
    }
}

/// A connection to a port of the machine: our end, and the one that QEMU inherits.
struct Channel {
    ours: UnixStream,
    theirs: OwnedFd,
}

impl Channel {
    fn new() -> Result<Channel> {
        let pair = || -> io::Result<Channel> {
            let (ours, theirs) = UnixStream::pair()?;
            fcntl_setfd(&theirs, FdFlags::empty())?;
            Ok(Channel {
                ours,
                theirs: theirs.into(),
            })
        };
        pair().map_err(|source| Error::Start {
            command: "a channel to the lab host".into(),
            source,
        })
    }
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().map_err(|source| Error::Start {
        command: "qemu-system-x86_64".into(),
        source,
    })
}

/// Waits for the machine to end; kills it when its time is over, and says whether it ended by itself.
fn wait(child: &mut Child, patience: Option<Duration>) -> Result<bool> {
    let deadline = patience.map(|patience| Instant::now() + patience);
    let failed = |source| Error::Start {
        command: "qemu-system-x86_64".into(),
        source,
    };
    loop {
        if child.try_wait().map_err(failed)?.is_some() {
            return Ok(true);
        }
        if deadline.is_some_and(|deadline| Instant::now() > deadline) {
            child.kill().map_err(failed)?;
            child.wait().map_err(failed)?;
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn start_pump(from: UnixStream, to: Box<dyn Write + Send>) -> JoinHandle<()> {
    thread::spawn(move || pump(Box::new(from), to))
}

/// Passes bytes on as they come, until either side ends.
fn pump(mut from: Box<dyn Read + Send>, mut to: impl Write) {
    let mut buffer = [0; 4096];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

fn read_all(mut from: UnixStream) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).ok();
    text
}
