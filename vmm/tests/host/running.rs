//! Ballast with a QMP client.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::io::{BufRead, BufReader, Lines, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Ends with the test, whatever becomes of that.
pub(crate) struct Running(pub(crate) Child);

impl Running {
    /// In a directory with a kernel `vmlinux`; a guest that does not run, whose QMP socket is `qmp`.
    pub(crate) fn start(directory: &Path, line: &str) -> Running {
        let child = Command::new(env!("CARGO_BIN_EXE_ballast"))
            .current_dir(directory)
            .args("run -S -serial none -kernel vmlinux -qmp unix:qmp,server=on,wait=off".split(' '))
            .args(line.split(' '))
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Running(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A client that has negotiated.
pub(crate) struct Qmp {
    stream: UnixStream,
    lines: Lines<BufReader<UnixStream>>,
}

impl Qmp {
    /// As soon as the socket is there.
    pub(crate) fn connect(directory: &Path) -> Qmp {
        let start = Instant::now();
        let stream = loop {
            match UnixStream::connect(directory.join("qmp")) {
                Ok(stream) => break stream,
                Err(error) => assert!(start.elapsed() < PATIENCE, "{error}"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let mut qmp = Qmp { stream, lines };
        assert!(qmp.next().is_some_and(|greeting| greeting["QMP"].is_object()));
        assert_eq!(qmp.command("qmp_capabilities"), json!({}));
        qmp
    }

    /// The next object; none when the other side has gone.
    pub(crate) fn next(&mut self) -> Option<Value> {
        let line = self.lines.next()?.ok()?;
        Some(serde_json::from_str(&line).unwrap())
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).unwrap();
    }

    /// What a command without arguments returns; events before it are passed over.
    pub(crate) fn command(&mut self, name: &str) -> Value {
        self.send(&format!("{}\n", json!({ "execute": name })));
        loop {
            let mut answer = self.next().unwrap();
            if answer["event"].is_null() {
                assert!(answer["error"].is_null(), "{name}: {answer}");
                return answer["return"].take();
            }
        }
    }

    /// The data of the next event with this name.
    pub(crate) fn event(&mut self, name: &str) -> Value {
        loop {
            let mut event = self.next().unwrap();
            if event["event"] == name {
                return event["data"].take();
            }
        }
    }
}
