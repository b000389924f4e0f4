//! Output of the monitor on the terminal. A terminal can be stopped (Ctrl-S) or a pipe full: a thread of its own waits
//! for them, so that nothing else does.

use std::io::{self, Write, stdout};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::lines::Lines;
use super::monitor;
use super::target::Target;

/// Answers that may wait for the terminal; what comes then is lost.
const WAITING: usize = 64;
/// How long the end waits for what is still to be shown.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The monitor on the terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    lines: Lines,
    /// None at the end only.
    output: Option<SyncSender<String>>,
    /// Disconnected when the thread has shown everything.
    shown: Receiver<()>,
}

impl Terminal {
    pub(super) fn new() -> io::Result<Terminal> {
        let (output, texts) = sync_channel::<String>(WAITING);
        let (showing, shown) = sync_channel::<()>(0);
        thread::Builder::new().name("monitor".to_owned()).spawn(move || {
            let _showing = showing;
            for text in texts {
                let mut stdout = stdout().lock();
                // Nobody is left to be told that the terminal is gone.
                let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
            }
        })?;
        Ok(Terminal {
            lines: Lines::default(),
            output: Some(output),
            shown,
        })
    }

    /// Says the first thing.
    pub(super) fn greet(&self) {
        self.say(format!("{}{}", monitor::BANNER, monitor::PROMPT));
    }

    /// Does what was typed.
    pub(super) fn typed(&mut self, mut bytes: &[u8], target: &mut dyn Target) {
        while let Some(line) = self.lines.next(&mut bytes) {
            self.say(format!("{}{}", monitor::run(target, &line), monitor::PROMPT));
        }
    }

    fn say(&self, text: String) {
        if let Some(output) = &self.output
            && output.try_send(text).is_err()
        {
            tracing::debug!("the terminal does not take the monitor's output");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.output = None;
        // Either it has shown everything, or it is stuck and is left behind.
        if self.shown.recv_timeout(LAST_WORDS) == Err(RecvTimeoutError::Timeout) {
            tracing::debug!("the terminal does not take the monitor's last output");
        }
    }
}
