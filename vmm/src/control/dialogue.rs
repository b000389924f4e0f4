//! The monitor's side of one connection, or of the terminal: lines in, answers and prompts out.

use super::lines::Lines;
use super::monitor;
use super::put_off::{PutOff, Wait};
use super::target::Target;

#[derive(Debug, Default)]
pub(super) struct Dialogue {
    lines: Lines,
    /// A line that is better answered a little later. Those behind it wait.
    put_off: Option<PutOff<String>>,
}

impl Dialogue {
    /// Does the next line in `input`; the answer ends in a prompt. None when no line is complete, or the one before is not
    /// answered yet.
    pub(super) fn next_answer(&mut self, input: &mut &[u8], target: &mut dyn Target) -> Option<String> {
        if self.put_off.is_some() {
            return None;
        }
        let line = self.lines.next(input)?;
        if let Some(awaited) = monitor::awaits(target, &line) {
            self.put_off = Some(PutOff::new(line, awaited));
            return None;
        }
        Some(answer(target, &line))
    }

    /// What a line that was put off waits for.
    pub(super) fn wait(&self) -> Option<Wait> {
        self.put_off.as_ref().map(|put_off| put_off.wait)
    }

    /// Does the line that was put off.
    pub(super) fn late_answer(&mut self, target: &mut dyn Target) -> Option<String> {
        let put_off = self.put_off.take()?;
        Some(answer(target, &put_off.request))
    }
}

fn answer(target: &mut dyn Target, line: &str) -> String {
    format!("{}{}", monitor::run(target, line), monitor::PROMPT)
}
