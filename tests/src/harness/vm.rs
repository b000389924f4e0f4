//! A guest under Ballast.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, WaitIdStatus, kill_process, waitid};
use tempfile::TempDir;

use super::agent::{Agent, BOOT};
use super::console::{Console, Transcript};
use super::maps::{self, Mapping};
use super::qmp::Qmp;
use super::{Error, Result, names, terminal};

/// The environment variable that names the program under test; without it, it is looked for in PATH.
pub const PROGRAM: &str = "BALLAST";
/// How long an end of Ballast may take after its serial port or a socket of it has closed.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// A command line for kernels that answers on the serial port and ends on a panic.
pub const COMMAND_LINE: &str = "console=ttyS0 panic=-1 reboot=t quiet";

/// How to start Ballast.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program and the words before the arguments.
    program: Vec<OsString>,
    wrapper: Vec<OsString>,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    kernel_words: Option<String>,
    qmp: bool,
    reboots: bool,
    terminal: bool,
}

impl Launch {
    /// `ballast run` with nothing but `-no-reboot`, so that the death of a guest is seen.
    pub fn new() -> Launch {
        let program = std::env::var_os(PROGRAM).unwrap_or_else(|| "ballast".into());
        Launch::words(vec![program, "run".into()])
    }

    /// Another VMM that takes QEMU's options, to compare with.
    pub fn other(program: &str) -> Launch {
        Launch::words(vec![program.into()])
    }

    fn words(program: Vec<OsString>) -> Launch {
        Launch {
            program,
            wrapper: Vec::new(),
            arguments: Vec::new(),
            environment: Vec::new(),
            kernel_words: None,
            qmp: false,
            reboots: false,
            terminal: false,
        }
    }

    /// With the tiny kernel (ELF) and the guest's initramfs.
    pub fn tiny() -> Launch {
        Launch::kernel(names::TINY_ELF)
    }

    /// With the distribution's kernel and the guest's initramfs.
    pub fn stock() -> Launch {
        Launch::kernel(names::STOCK)
    }

    /// With a kernel and the guest's initramfs.
    pub fn kernel(path: impl AsRef<OsStr>) -> Launch {
        let mut launch = Launch::new()
            .arg("-kernel")
            .arg(path)
            .args(["-initrd", names::GUEST]);
        launch.kernel_words = Some(COMMAND_LINE.to_owned());
        launch
    }

    /// With more words on the kernel's command line.
    #[must_use]
    pub fn append(mut self, words: &str) -> Launch {
        let line = self.kernel_words.get_or_insert_default();
        line.push(' ');
        line.push_str(words);
        self
    }

    /// With another program than [`PROGRAM`] says.
    #[must_use]
    pub fn program(mut self, path: &Path) -> Launch {
        self.program = vec![path.into(), "run".into()];
        self
    }

    /// With one more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Launch {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// With more arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = A>) -> Launch {
        self.arguments
            .extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// With the arguments in a line, parted at white space.
    #[must_use]
    pub fn line(self, line: &str) -> Launch {
        self.args(line.split_whitespace())
    }

    /// With a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Launch {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// Started by another program, as `taskset 1`.
    #[must_use]
    pub fn under<A: AsRef<OsStr>>(mut self, wrapper: &[A]) -> Launch {
        self.wrapper = wrapper.iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// With a QMP socket, for [`Vm::qmp`].
    #[must_use]
    pub fn qmp(mut self) -> Launch {
        self.qmp = true;
        self
    }

    /// A guest that resets its machine, or dies, starts again.
    #[must_use]
    pub fn reboots(mut self) -> Launch {
        self.reboots = true;
        self
    }

    /// With a terminal as standard error.
    #[must_use]
    pub fn terminal(mut self) -> Launch {
        self.terminal = true;
        self
    }

    /// Starts it.
    pub fn start(self) -> Result<Vm> {
        let directory = tempfile::tempdir().map_err(Error::file("create", Path::new("/tmp")))?;
        let mut arguments: Vec<OsString> = Vec::new();
        if !self.reboots {
            arguments.push("-no-reboot".into());
        }
        arguments.extend(self.arguments);
        if let Some(words) = self.kernel_words {
            arguments.extend(["-append".into(), words.into()]);
        }
        let socket = directory.path().join("qmp");
        if self.qmp {
            arguments.extend([
                "-qmp".into(),
                format!("unix:{},server=on,wait=off", socket.display()).into(),
            ]);
        }
        let mut words = self.wrapper.into_iter().chain(self.program).chain(arguments);
        let first = words.next().unwrap_or_default();
        let mut command = Command::new(&first);
        command.args(words).envs(self.environment);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let terminal = if self.terminal {
            let (ours, theirs) = terminal::open()?;
            command.stderr(theirs);
            Some(ours)
        } else {
            command.stderr(Stdio::piped());
            None
        };
        let started = Instant::now();
        let mut child = command.spawn().map_err(|source| run_error(&first, source))?;
        // It holds its end of a terminal open.
        drop(command);
        let errors = terminal.map(Transcript::of);
        let errors = errors.or_else(|| child.stderr.take().map(Transcript::of));
        let (Some(input), Some(output), Some(errors)) = (child.stdin.take(), child.stdout.take(), errors)
        else {
            return Err(run_error(&first, std::io::Error::other("a pipe is missing")));
        };
        let console = Console::new(input, output);
        Ok(Vm {
            guest: console.transcript.clone(),
            console: Some(console),
            errors,
            child,
            started,
            socket,
            _directory: directory,
        })
    }
}

impl Default for Launch {
    fn default() -> Self {
        Launch::new()
    }
}

/// A running Ballast; killed when dropped.
#[derive(Debug)]
pub struct Vm {
    child: Child,
    started: Instant,
    console: Option<Console<ChildStdin>>,
    /// What came from the guest's serial port.
    guest: Transcript,
    /// Its standard error.
    pub errors: Transcript,
    socket: PathBuf,
    _directory: TempDir,
}

impl Vm {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// When it was started.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// The serial port, once.
    pub fn console(&mut self) -> Result<Console<ChildStdin>> {
        self.console
            .take()
            .ok_or_else(|| Error::Connection("the console was taken before".into()))
    }

    /// Waits until the guest's agent is ready.
    pub fn boot(&mut self) -> Result<Agent<ChildStdin>> {
        let console = self.console()?;
        Agent::wait(console, BOOT).map_err(|error| self.explain(error))
    }

    /// Connects to the QMP socket that [`Launch::qmp`] asked for, and waits until what is to be there before the guest runs is
    /// there.
    pub fn qmp(&self) -> Result<Qmp> {
        let mut qmp = self.early_qmp()?;
        let filled = qmp.wait_filled().and_then(|()| self.wait_started());
        filled.map(|()| qmp).map_err(|error| self.explain(error))
    }

    /// Waits until the thread that fills memory, and then loads the kernel, is through: `quit` before is no success.
    fn wait_started(&self) -> Result<()> {
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid()));
        let is_starting = || {
            let mut tasks = fs::read_dir(&tasks).into_iter().flatten().flatten();
            tasks.any(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name == "start\n"))
        };
        match eventually(BOOT, || Ok(!is_starting()))? {
            true => Ok(()),
            false => Err(Error::TimedOut {
                what: "end of the start".into(),
                patience: BOOT,
                seen: self.errors.text(),
            }),
        }
    }

    /// The same without waiting.
    pub fn early_qmp(&self) -> Result<Qmp> {
        Qmp::connect(&self.socket).map_err(|error| self.explain(error))
    }

    /// The QMP socket's path.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// The mappings that are guest RAM.
    pub fn memory(&self) -> Result<Vec<Mapping>> {
        maps::guest_memory(self.pid())
    }

    /// Bytes that the host holds for guest RAM.
    pub fn resident(&self) -> Result<u64> {
        maps::guest_resident(self.pid())
    }

    /// Waits until Ballast ends.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + patience;
        loop {
            let ended = self
                .child
                .try_wait()
                .map_err(|source| run_error("ballast", source))?;
            if let Some(status) = ended {
                // Its last words are there before the test looks at them.
                self.errors.wait_end(Duration::from_secs(5)).ok();
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(Error::TimedOut {
                    what: "end of ballast".into(),
                    patience,
                    seen: self.errors.text(),
                });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// How it ended, if it has. [`Vm::wait`] can still be asked for it: the process is not reaped.
    fn ending(&self) -> Result<Option<WaitIdStatus>> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.child)), options)
            .map_err(|errno| run_error("ballast", errno.into()))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).map_err(|errno| run_error("kill", errno.into()))
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .and_then(|()| self.child.wait())
            .map(drop)
            .map_err(|source| run_error("ballast", source))
    }

    /// Adds what the VMM itself said, and how it ended, to an error about its guest.
    pub fn explain(&self, error: Error) -> Error {
        let ended = eventually(LAST_WORDS, || self.ending().map(|ending| ending.is_some()));
        let ending = ended.and_then(|_| self.ending());
        let said = format!("\nthe VMM, {}, said:\n{}", told(ending), self.errors.text());
        match error {
            Error::TimedOut { what, patience, seen } => Error::TimedOut {
                what,
                patience,
                seen: seen + &said,
            },
            Error::Ended { what, seen } => Error::Ended {
                what,
                seen: seen + &said,
            },
            Error::Connection(text) => {
                let guest = self.guest.tail();
                Error::Connection(format!("{text}{said}the guest said last:\n{guest}"))
            }
            other @ (Error::File { .. }
            | Error::Format { .. }
            | Error::Run { .. }
            | Error::Agent { .. }
            | Error::Qmp { .. }) => other,
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        // A test that fails in the middle of something else says why its guest was gone; `wait` has reaped it where it should end.
        if let Ok(Some(_)) = self.ending() {
            eprintln!("ballast, {}, said:\n{}", told(self.ending()), self.errors.text());
        }
        // It may have ended before: then there is nothing to kill.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Waits until a condition holds, looking at it every 50 ms; `false` if it never did.
pub fn eventually(patience: Duration, mut condition: impl FnMut() -> Result<bool>) -> Result<bool> {
    let deadline = Instant::now() + patience;
    loop {
        if condition()? {
            return Ok(true);
        }
        if Instant::now() > deadline {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn told(ending: Result<Option<WaitIdStatus>>) -> String {
    match ending {
        Ok(None) => "still there".to_owned(),
        Ok(Some(status)) => match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => format!("ended with {code}"),
            (None, Some(signal)) => format!("killed by signal {signal}"),
            (None, None) => format!("{status:?}"),
        },
        Err(error) => error.to_string(),
    }
}

fn run_error(program: impl AsRef<OsStr>, source: std::io::Error) -> Error {
    Error::Run {
        program: program.as_ref().to_string_lossy().into_owned(),
        source,
    }
}
