//! Output of the monitor on the terminal. A terminal can be stopped (Ctrl-S) or a pipe full: a thread of its own waits
//! for them, so that nothing else does.

use std::io::{self, Write, stdout};
use std::mem;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::dialogue::Dialogue;
use super::monitor;
use super::put_off::Wait;
use super::target::Target;

/// Answers that may wait for the terminal; what comes then is lost.
const WAITING: usize = 64;
/// Bytes that may be typed while an answer is put off; what comes then is lost.
const MOST_INPUT: usize = 64 * 1024;
/// How long the end waits for what is still to be shown.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// The monitor on the terminal.
#[derive(Debug)]
pub(super) struct Terminal {
    dialogue: Dialogue,
    /// Typed while an answer was put off.
    input: Vec<u8>,
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
            dialogue: Dialogue::default(),
            input: Vec::new(),
            output: Some(output),
            shown,
        })
    }

    /// Says the first thing.
    pub(super) fn greet(&self) {
        self.say(format!("{}{}", monitor::BANNER, monitor::PROMPT));
    }

    /// Does what was typed.
    pub(super) fn typed(&mut self, bytes: &[u8], target: &mut dyn Target) {
        let room = MOST_INPUT.saturating_sub(self.input.len()).min(bytes.len());
        self.input.extend_from_slice(&bytes[..room]);
        self.go_on(target);
    }

    /// What a line that was put off waits for.
    pub(super) fn wait(&self) -> Option<Wait> {
        self.dialogue.wait()
    }

    /// Does the line that was put off, and what was typed since.
    pub(super) fn late_answer(&mut self, target: &mut dyn Target) {
        if let Some(text) = self.dialogue.late_answer(target) {
            self.say(text);
        }
        self.go_on(target);
    }

    fn go_on(&mut self, target: &mut dyn Target) {
        let input = mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some(text) = self.dialogue.next_answer(&mut rest, target) {
            self.say(text);
        }
        self.input = rest.to_vec();
    }

    /// Shows `text` when the terminal takes it.
    pub(super) fn say(&self, text: String) {
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
