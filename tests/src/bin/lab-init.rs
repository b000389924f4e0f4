//! The first program of the lab host: prepares the machine, runs the job, tells its status, switches off.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use rustix::mount::{MountFlags, mount};
use rustix::system::{RebootCommand, finit_module, reboot};
use rustix::termios::{Winsize, tcsetwinsize};
use tests::job::{JOB_FILE, Job, MODULE_LIST, PORT_ERROR, PORT_OUTPUT, PORT_STATUS, PROGRAMS, TERMINAL};

/// What is mounted where: file system, place, options. Nothing on `/tmp`: the root is a tmpfs itself, and files that
/// a command line names may come with it.
const MOUNTS: [(&str, &str, &str); 9] = [
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", ""),
    ("devpts", "/dev/pts", ""),
    ("tmpfs", "/dev/shm", ""),
    ("tmpfs", "/run", ""),
    ("hugetlbfs", "/dev/hugepages", "pagesize=2M"),
    ("hugetlbfs", "/dev/hugepages1G", "pagesize=1G"),
    ("cgroup2", "/sys/fs/cgroup", ""),
];

/// How long a virtio port may take to appear.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    let status = match run() {
        Ok(status) => describe(status),
        Err(error) => {
            println!("lab-init: {error}");
            format!("error {error}")
        }
    };
    if let Err(error) = port(PORT_STATUS).and_then(|mut port| writeln!(port, "{status}")) {
        println!("lab-init: cannot tell the status: {error}");
    }
    if let Err(error) = reboot(RebootCommand::PowerOff) {
        println!("lab-init: cannot switch off: {error}");
    }
}

fn run() -> io::Result<ExitStatus> {
    for (kind, place, options) in MOUNTS {
        fs::create_dir_all(place)?;
        let options = std::ffi::CString::new(options)?;
        mount(kind, place, kind, MountFlags::empty(), Some(options.as_c_str()))
            .map_err(|error| context(&format!("mount {place}"), &error.into()))?;
    }
    Command::new("/bin/busybox")
        .args(["--install", "-s", "/bin"])
        .status()?;
    fs::write("/proc/sys/kernel/hostname", "lab")?;
    Command::new("/bin/ip")
        .args(["link", "set", "lo", "up"])
        .status()?;
    load_modules()?;
    let _idle = idle_vm();
    start_processors()?;

    let text = fs::read_to_string(JOB_FILE).map_err(|error| context(&format!("read {JOB_FILE}"), &error))?;
    let job: Job = serde_json::from_str(&text).map_err(io::Error::other)?;
    fs::create_dir_all(&job.directory)?;
    command(&job)?
        .status()
        .map_err(|error| context(&format!("start {:?}", job.command), &error))
}

/// The job's command with its streams: a terminal of its own, or two ports.
fn command(job: &Job) -> io::Result<Command> {
    let mut command = match job.terminal {
        Some((rows, columns)) => {
            let terminal = OpenOptions::new().read(true).write(true).open(TERMINAL)?;
            let size = Winsize {
                ws_row: rows,
                ws_col: columns,
                ws_xpixel: 0,
                ws_ypixel: 0,
            };
            tcsetwinsize(&terminal, size)?;
            let mut command = Command::new("/bin/setsid");
            command.arg("-c").args(&job.command);
            command
                .stdin(terminal.try_clone()?)
                .stdout(terminal.try_clone()?)
                .stderr(terminal);
            command
        }
        None => {
            let output = port(PORT_OUTPUT)?;
            let (program, arguments) = job
                .command
                .split_first()
                .ok_or_else(|| io::Error::other("the job has no command"))?;
            let mut command = Command::new(program);
            command.args(arguments);
            command
                .stdin(output.try_clone()?)
                .stdout(output)
                .stderr(port(PORT_ERROR)?);
            command
        }
    };
    command.current_dir(&job.directory);
    command
        .env("PATH", format!("{PROGRAMS}:/bin:/sbin:/usr/bin:/usr/sbin"))
        .env("HOME", "/")
        .env("TERM", "linux");
    command.envs(job.environment.iter().cloned());
    Ok(command)
}

/// Loads what the list names. One of `kvm_amd` and `kvm_intel` has nothing to do on this processor: that is no error.
fn load_modules() -> io::Result<()> {
    let directory = Path::new(MODULE_LIST)
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default();
    for name in fs::read_to_string(MODULE_LIST)?.lines() {
        let loaded = finit_module(File::open(directory.join(name))?, c"", 0);
        match loaded {
            Err(error) if !name.starts_with("kvm_") => {
                return Err(context(&format!("load {name}"), &error.into()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// Starts the processors that the kernel has not: in an emulated host all but the first.
fn start_processors() -> io::Result<()> {
    for entry in fs::read_dir("/sys/devices/system/cpu")? {
        let switch = entry?.path().join("online");
        let is_off = fs::read_to_string(&switch).is_ok_and(|state| state.trim() == "0");
        if is_off {
            fs::write(&switch, "1")
                .map_err(|error| context(&format!("write {}", switch.display()), &error))?;
        }
    }
    Ok(())
}

/// A VM that stays, with a vCPU whose local APIC is off, as after a reset.
///
/// KVM patches its code when the first VM comes and the last one goes (`preempt_notifier_key`), and when the first local APIC
/// is off and the last one is switched on (`apic_sw_disabled`), which is several times for each guest that boots. Emulated
/// processors may run a breakpoint of that patching when it is long gone (QEMU before 8.1 translates code while another
/// processor writes it): the host dies of `Oops: int3`. With this VM there is always one more, and nothing is patched.
fn idle_vm() -> Option<(Kvm, VmFd, VcpuFd)> {
    let open = || {
        let kvm = Kvm::new()?;
        let vm = kvm.create_vm()?;
        vm.create_irq_chip()?;
        let vcpu = vm.create_vcpu(0)?;
        Ok((kvm, vm, vcpu))
    };
    let opened: Result<_, kvm_ioctls::Error> = open();
    opened
        .inspect_err(|error| println!("lab-init: no idle VM: {error}"))
        .ok()
}

/// Opens the virtio port of a name, which appears soon after the start.
fn port(name: &str) -> io::Result<File> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(path) = find_port(name) {
            return OpenOptions::new().read(true).write(true).open(path);
        }
        if Instant::now() > deadline {
            return Err(io::Error::other(format!("no virtio port is called {name}")));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

fn find_port(name: &str) -> Option<PathBuf> {
    let named = |entry: &fs::DirEntry| {
        fs::read_to_string(entry.path().join("name")).is_ok_and(|text| text.trim_end() == name)
    };
    let port = fs::read_dir("/sys/class/virtio-ports")
        .ok()?
        .flatten()
        .find(named)?;
    Some(Path::new("/dev").join(port.file_name()))
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "error the job ended in no known way".to_owned(),
    }
}

fn context(action: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {action}: {error}"))
}
