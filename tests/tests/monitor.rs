//! The monitor for people: on a socket and on the terminal, in the words that they know.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use tests::harness::console::Console;
use tests::harness::vm::{Launch, eventually};
use tests::harness::{Error, Result};

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(20);
/// How long the guest's balloon may take.
const BALLOON: Duration = Duration::from_secs(30);
/// What stands before the place to type at.
const PROMPT: &str = "(ballast) ";

/// A monitor: a line in, text out, up to the next prompt.
struct Monitor<W: Write>(Console<W>);

impl<W: Write> Monitor<W> {
    /// Waits for the first prompt; what stood before it comes too.
    fn greeted(mut console: Console<W>) -> Result<(Monitor<W>, String)> {
        let banner = until_prompt(&mut console)?;
        Ok((Monitor(console), banner))
    }

    fn ask(&mut self, line: &str) -> Result<String> {
        self.0.send(line)?;
        until_prompt(&mut self.0)
    }

    fn shows(&mut self, line: &str, text: &str) -> Result<bool> {
        eventually(BALLOON, || Ok(self.ask(line)? == text))
    }
}

fn until_prompt<W: Write>(console: &mut Console<W>) -> Result<String> {
    let before = console.transcript.len();
    console.wait_for(PROMPT, ANSWER)?;
    let text = console.transcript.text();
    let end = text.rfind(PROMPT).unwrap_or(text.len());
    // What was there before the line was sent belongs to the last answer.
    let start = if before < end {
        before
    } else {
        text[..end].rfind(PROMPT).map_or(0, |at| at + PROMPT.len())
    };
    Ok(text[start..end].replace("\r\n", "\n"))
}

fn connect(path: &Path) -> Result<Monitor<UnixStream>> {
    let failed = |error: std::io::Error| Error::Connection(format!("{}: {error}", path.display()));
    let deadline = Instant::now() + ANSWER;
    let stream = loop {
        match UnixStream::connect(path) {
            Ok(stream) => break stream,
            Err(error) if Instant::now() > deadline => return Err(failed(error)),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    };
    let output: Box<dyn Read + Send> = Box::new(stream.try_clone().map_err(failed)?);
    Monitor::greeted(Console::new(stream, output)).map(|(monitor, _)| monitor)
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn a_socket_moves_the_balloon_in_qemus_words() -> Result<()> {
    let directory = tempfile::tempdir().map_err(Error::file("create", Path::new("/tmp")))?;
    let socket = directory.path().join("monitor");
    let mut vm = Launch::tiny()
        .line("-m 512 -device virtio-balloon-pci,id=balloon0 -machine mem-merge=on -monitor")
        .arg(format!("unix:{},server=on,wait=off", socket.display()))
        .start()?;
    let mut monitor = connect(&socket)?;
    let mut agent = vm.boot()?;

    assert_eq!(monitor.ask("info balloon")?, "balloon: actual=512\n");
    assert_eq!(monitor.ask("balloon 256")?, "");
    assert!(monitor.shows("info balloon", "balloon: actual=256\n")?);
    assert!(agent.memory()?.available < 256 << 20);
    assert_eq!(monitor.ask("balloon 512")?, "");
    assert!(monitor.shows("info balloon", "balloon: actual=512\n")?);
    assert_eq!(monitor.ask("balloon 666")?, "");
    assert_eq!(monitor.ask("info balloon")?, "balloon: actual=512\n");

    assert_eq!(monitor.ask("info status")?, "VM status: running\n");
    assert_eq!(monitor.ask("stop")?, "");
    assert_eq!(monitor.ask("info status")?, "VM status: paused\n");
    assert!(agent_is_silent(&mut agent)?);
    assert_eq!(monitor.ask("cont")?, "");
    assert_eq!(monitor.ask("info status")?, "VM status: running\n");
    agent.exec("true")?;

    let memdev = monitor.ask("info memdev")?;
    for line in [
        "memory backend: ram\n",
        "  size:  536870912\n",
        "  merge: true\n",
        "  prealloc: false\n",
    ] {
        assert!(memdev.contains(line), "{line:?} is not in {memdev}");
    }
    let ksm = monitor.ask("info ksm")?;
    for word in ["run=", "pages_sharing=", "ksm_merging_pages="] {
        assert!(ksm.contains(word), "{word} is not in {ksm}");
    }

    // A second person at the same monitor does not get the first one's answers.
    let mut other = connect(&socket)?;
    assert_eq!(other.ask("info kvm")?, "kvm support: enabled\n");
    assert_eq!(monitor.ask("info kvm")?, "kvm support: enabled\n");

    monitor.0.send("quit")?;
    assert_eq!(vm.wait(ANSWER)?.code(), Some(0), "{}", vm.errors.text());
    assert!(!socket.exists());
    Ok(())
}

/// Whether a stopped guest does not answer.
fn agent_is_silent<W: Write>(agent: &mut tests::harness::agent::Agent<W>) -> Result<bool> {
    let place = agent.console.transcript.len();
    agent.console.send("7000 exec true")?;
    match agent
        .console
        .transcript
        .wait_for("agent 7000=", place, Duration::from_secs(1))
    {
        Ok(_) => Ok(false),
        Err(error) if error.is_timeout() => Ok(true),
        Err(error) => Err(error),
    }
}

#[test]
#[ignore = "needs the lab: cargo lab test"]
fn the_terminal_carries_the_monitor() -> Result<()> {
    let mut vm = Launch::tiny()
        .line("-m 128 -S -name web -serial none -monitor stdio")
        .start()?;
    let (mut monitor, banner) = Monitor::greeted(vm.console()?)?;
    assert!(banner.starts_with("Ballast "), "{banner}");
    assert_eq!(monitor.ask("info status")?, "VM status: paused (prelaunch)\n");
    assert_eq!(monitor.ask("info name")?, "web\n");
    assert_eq!(
        monitor.ask("info balloon")?,
        "Error: No balloon device has been activated\n"
    );
    assert_eq!(monitor.ask("what")?, "unknown command: 'what'\n");
    let long = "x".repeat(1500);
    assert_eq!(monitor.ask(&long)?, format!("unknown command: '{long}'\n"));
    let help = monitor.ask("help")?;
    for command in [
        "balloon",
        "cont",
        "help",
        "info",
        "quit",
        "stop",
        "system_powerdown",
        "system_reset",
    ] {
        assert!(
            help.lines().any(|line| line.starts_with(command)),
            "no {command} in {help}"
        );
    }
    assert_eq!(monitor.ask("cont")?, "");
    assert_eq!(monitor.ask("info status")?, "VM status: running\n");
    monitor.0.send("quit")?;
    assert_eq!(vm.wait(ANSWER)?.code(), Some(0), "{}", vm.errors.text());
    Ok(())
}
