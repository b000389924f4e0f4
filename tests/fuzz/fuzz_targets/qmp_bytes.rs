//! What a client sends to a QMP or monitor socket, in pieces, reading the answers at once or late.
//!
//! The first byte of an input says how: bit 0 the monitor instead of QMP, bit 1 read late, bits 4 to 7 the length of a
//! piece (0: 4096). The rest is sent; with bits 2 to 7 equal to 000011 again and again.
//!
//! Real sockets, but one thread: the bench plays client and main loop in turn. Asserted: the main loop comes to rest, what
//! is said is bounded by what was asked, QMP's answers are lines of JSON, a client that is through is let go, and another
//! client gets its answer.
#![no_main]

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use fuzz::Machine;
use libfuzzer_sys::fuzz_target;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde_json::Value;
use vmm::cli::{self, Command};
use vmm::config::Config;
use vmm::control::Control;
use vmm::control::qmp::framer::MAX_LENGTH;

/// What is sent of an input that is repeated: more than the longest request; less where nothing is read meanwhile, but
/// enough to fill what there is for answers.
const MANY: usize = MAX_LENGTH + 4096;
const MANY_UNREAD: usize = 8192;
/// The longest piece.
const PIECE: usize = 4096;
/// A client that has heard this much says no more.
const ENOUGH: usize = 384 * 1024;
/// Longest line said: a request, escaped, and the largest answer of a command.
const MAX_LINE: usize = 6 * MAX_LENGTH + 64 * 1024;
/// Rounds of the main loop after a piece: one a request, and some for comings and goings.
const MAX_ROUNDS: usize = 2 * MANY;

thread_local! {
    static BENCH: RefCell<Bench> = RefCell::new(Bench::new());
}

fuzz_target!(|data: &[u8]| {
    if let Some((how, bytes)) = data.split_first() {
        BENCH.with_borrow_mut(|bench| bench.talk(*how, bytes));
    }
});

struct Bench {
    control: Control,
    machine: Machine,
    qmp: Door,
    monitor: Door,
}

impl Bench {
    fn new() -> Bench {
        let dir = std::env::temp_dir().join(format!("ballast-fuzz-{}", std::process::id()));
        std::fs::create_dir(&dir).expect("a directory of our own");
        let at = |name: &str| format!("unix:{}", dir.join(name).display());
        let words = ["ballast", "run", "-kernel", "k"].map(String::from).into_iter();
        let words = words.chain(["-qmp".into(), at("q"), "-monitor".into(), at("m")]);
        let Ok(Command::Run(args)) = cli::parse(words.map(Into::into)) else {
            panic!("this is a good command line")
        };
        let config = Config::new(args).expect("a good configuration");
        let bench = Bench {
            control: Control::bind(&config).expect("two sockets"),
            machine: Machine::new(),
            qmp: Door::new(&dir.join("q")),
            monitor: Door::new(&dir.join("m")),
        };
        // A fuzzer may end at any time: nothing stays behind.
        std::fs::remove_dir_all(dir).expect("our own directory");
        bench
    }

    /// Everything that one input does.
    fn talk(&mut self, how: u8, bytes: &[u8]) {
        self.machine.rewind();
        let is_monitor = how & 1 != 0;
        let reads_late = how & 2 != 0;
        let many = if reads_late { MANY_UNREAD } else { MANY };
        let times = if how & 0xfc == 0x0c {
            many / bytes.len().max(1)
        } else {
            1
        };
        let all = bytes.repeat(times.max(1));
        let piece = match usize::from(how >> 4) {
            0 => PIECE,
            length => length,
        };

        let mut witness = Client::new(&self.qmp);
        self.settle();
        let mut client = Client::new(if is_monitor { &self.monitor } else { &self.qmp });
        self.settle();
        let mut left = &all[..];
        while !left.is_empty() && !client.is_gone && client.heard.len() < ENOUGH {
            let sent = client.send(&left[..left.len().min(piece)]);
            left = &left[sent..];
            self.settle();
            // A client that has said more than anybody takes has to read.
            if !reads_late || sent == 0 {
                client.receive();
                self.settle();
            }
        }
        self.ask(&mut witness);
        client.hang_up();
        for _ in 0..MAX_ROUNDS {
            self.settle();
            client.receive();
            if client.is_gone {
                break;
            }
        }
        assert!(client.is_gone, "a client that is through was not let go");
        client.check(is_monitor, all.len() + self.machine.told);
        witness.hang_up();
        self.settle();
    }

    /// The main loop, until it has nothing to do.
    fn settle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            let fd = self.control.fd();
            let mut fds = [PollFd::new(&fd, PollFlags::IN)];
            if poll(&mut fds, Some(&Timespec::default())).expect("poll") == 0 {
                return;
            }
            self.control.serve(&mut self.machine);
        }
        panic!("the main loop never comes to rest");
    }

    /// Another client is not disturbed.
    fn ask(&mut self, witness: &mut Client) {
        for request in [r#"{"execute":"qmp_capabilities"}"#, r#"{"execute":"query-kvm"}"#] {
            assert_eq!(witness.send(request.as_bytes()), request.len());
            self.settle();
        }
        witness.receive();
        let text = String::from_utf8_lossy(&witness.heard);
        assert!(
            text.contains(r#"{"return": {}}"#) && text.contains("present"),
            "{text}"
        );
    }
}

/// A socket that listens, without a name in any directory.
struct Door(OwnedFd);

impl Door {
    fn new(path: &Path) -> Door {
        Door(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("a socket"))
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

struct Client {
    stream: UnixStream,
    heard: Vec<u8>,
    is_gone: bool,
}

impl Client {
    fn new(door: &Door) -> Client {
        let stream = UnixStream::connect(door.path()).expect("somebody listens");
        stream.set_nonblocking(true).expect("a setting");
        Client {
            stream,
            heard: Vec::new(),
            is_gone: false,
        }
    }

    /// Returns how much was taken.
    fn send(&mut self, bytes: &[u8]) -> usize {
        match self.stream.write(bytes) {
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.is_gone = true;
                0
            }
        }
    }

    fn receive(&mut self) {
        match self.stream.read_to_end(&mut self.heard) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Ok(_) | Err(_) => self.is_gone = true,
        }
    }

    fn hang_up(&mut self) {
        // It may be gone already.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// What was heard is no more than `causes` (bytes sent, events) account for, besides the greeting.
    fn check(&self, is_monitor: bool, causes: usize) {
        if is_monitor {
            return;
        }
        let mut lines = 0;
        for line in self.heard.split_inclusive(|byte| *byte == b'\n') {
            lines += 1;
            assert!(line.len() <= MAX_LINE, "a line of {} bytes", line.len());
            let value: Value = serde_json::from_slice(line).expect("QMP is JSON");
            let known = ["QMP", "return", "error", "event"];
            assert!(known.iter().any(|member| value.get(member).is_some()), "{value}");
            assert!(line.ends_with(b"\r\n"));
        }
        assert!(lines <= causes + 1, "{lines} lines for {causes} causes");
    }
}
