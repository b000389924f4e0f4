//! The first program of a guest: mounts, modules, `acpid`, then the agent on the console.
//!
//! It must not end, because the kernel panics when its first program does.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use rustix::mount::{MountFlags, mount};
use rustix::stdio::{dup2_stdin, dup2_stdout};
use rustix::system::{finit_module, uname};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tests::agent::{MARK, READY, serve::Agent, sockets};

/// What is mounted where, by file system.
const MOUNTS: [(&str, &str); 5] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("tmpfs", "/tmp"),
    ("tmpfs", "/run"),
];

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["connect", port] => sockets(port, sockets::connect),
        ["serve", port] => sockets(port, sockets::serve),
        // The kernel gives its first program words of its own.
        _ => first_program(),
    }
}

/// As a program among others: `connect PORT` and `serve PORT`.
fn sockets(port: &str, work: fn(u32) -> io::Result<()>) -> ExitCode {
    let port = port.parse().map_err(io::Error::other);
    match port.and_then(work) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn first_program() -> ! {
    println!("{MARK}");
    for (kind, place) in MOUNTS {
        report(
            "mount",
            place,
            mount(kind, place, kind, MountFlags::empty(), None).err(),
        );
    }
    Command::new("/bin/busybox")
        .args(["--install", "-s", "/bin"])
        .status()
        .ok();
    load_modules();
    if let Some(place) = other_console()
        && let Err(error) = move_to(&place)
    {
        println!("agent: cannot talk on {place}: {error}");
    }
    if let Err(error) = start_acpid() {
        println!("agent: cannot start acpid: {error}");
    }
    quieten();
    println!("{READY}");
    loop {
        if let Err(error) = Agent::new(stdout()).serve(BufReader::new(stdin())) {
            println!("agent: console: {error}");
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Where the agent shall be: `agent=/dev/hvc0` among the kernel's words.
fn other_console() -> Option<String> {
    let words = fs::read_to_string("/proc/cmdline").ok()?;
    let place = words
        .split_whitespace()
        .find_map(|word| word.strip_prefix("agent="))?;
    Some(place.to_owned())
}

/// Makes `place` standard input and output. Its device may still be found, since modules do that beside us.
fn move_to(place: &str) -> io::Result<()> {
    let open = || fs::File::options().read(true).write(true).open(place);
    let mut file = open();
    for _ in 0..100 {
        if file.is_ok() {
            break;
        }
        thread::sleep(Duration::from_millis(50));
        file = open();
    }
    let file = file?;
    dup2_stdin(&file)?;
    dup2_stdout(&file)?;
    Ok(())
}

/// Starts `acpid` and waits until it says that it listens: a button pressed before is lost.
fn start_acpid() -> io::Result<()> {
    let mut command = Command::new("/usr/sbin/acpid");
    command
        .arg("-f")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut words = BufReader::new(child.stderr.take().ok_or_else(|| io::Error::other("no pipe"))?).lines();
    let mut said = String::new();
    for line in words.by_ref() {
        let line = line?;
        if line.contains("waiting for events") {
            // It goes on speaking, and must not find a closed pipe.
            thread::spawn(move || words.for_each(drop));
            return Ok(());
        }
        said = line;
    }
    Err(io::Error::other(said))
}

/// Loads what the list for this kernel names; a kernel without a list has everything built in.
fn load_modules() {
    let release = uname().release().to_string_lossy().into_owned();
    let directory = PathBuf::from("/lib/modules").join(release);
    let Ok(list) = fs::read_to_string(directory.join("list")) else {
        return;
    };
    for name in list.lines() {
        let path = directory.join(name);
        match fs::File::open(&path) {
            Ok(file) => report("load", name, finit_module(file, c"", 0).err()),
            Err(error) => println!("agent: cannot open {}: {error}", path.display()),
        }
    }
}

/// From here on the console carries the agent's lines, byte for byte, and no kernel messages.
fn quieten() {
    fs::write(Path::new("/proc/sys/kernel/printk"), "1").ok();
    if let Ok(mut settings) = tcgetattr(stdin()) {
        settings.make_raw();
        report(
            "set up",
            "console",
            tcsetattr(stdin(), OptionalActions::Now, &settings).err(),
        );
    }
}

fn report(action: &str, what: &str, error: Option<rustix::io::Errno>) {
    if let Some(error) = error {
        println!("agent: cannot {action} {what}: {error}");
    }
}
