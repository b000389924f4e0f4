//! A shell on a guest's serial port, for guests without our agent.

use std::io::Write;
use std::time::Duration;

use super::console::Console;
use super::{Error, Result};

/// How long a program that asks, or a shell, may take to show its prompt once another has been answered.
const PATIENCE: Duration = Duration::from_secs(120);
/// Makes of any shell a plain one that repeats nothing that is typed.
const PLAIN: &str = "stty -echo; PS1= TERM=dumb exec sh -i";

/// A shell that waits for commands.
#[derive(Debug)]
pub struct Shell<W: Write> {
    console: Console<W>,
    next: u32,
}

impl<W: Write> Shell<W> {
    /// Waits so long for the question for a name, and logs in.
    pub fn login(mut console: Console<W>, patience: Duration, name: &str, word: &str) -> Result<Shell<W>> {
        console.wait_for("login: ", patience)?;
        console.send(name)?;
        console.wait_for("Password: ", PATIENCE)?;
        console.send(word)?;
        Shell::prompted(console, PATIENCE)
    }

    /// Waits so long for the prompt of root's shell.
    pub fn prompted(mut console: Console<W>, patience: Duration) -> Result<Shell<W>> {
        console.wait_for("# ", patience)?;
        console.send(PLAIN)?;
        let mut shell = Shell { console, next: 0 };
        shell.exec("true", PATIENCE)?;
        Ok(shell)
    }

    /// Runs a command line that may take so long, and returns its output; an error if its status is not 0.
    pub fn exec(&mut self, line: &str, patience: Duration) -> Result<String> {
        self.next += 1;
        let (start, end) = (format!("start-{}", self.next), format!("end-{} ", self.next));
        // Should it be repeated after all, it is not what is waited for.
        self.console.send(&format!(
            "echo start''-{0}; {line}\nprintf '\\nend''-{0} %d\\n' $?",
            self.next
        ))?;
        let what = format!("answer to `{line}`");
        self.console
            .wait_line(&what, patience, |text| text.ends_with(&start).then_some(()))?;
        let mut output = String::new();
        let status = loop {
            let text = self
                .console
                .wait_line(&what, patience, |text| Some(text.to_owned()))?;
            match text.strip_prefix(&end) {
                Some(status) => break status.trim().to_owned(),
                None => output.push_str(&(text + "\n")),
            }
        };
        // The line end before the mark is not the command's.
        output.pop();
        match status.parse() {
            Ok(0) => Ok(output),
            Ok(status) => Err(Error::Agent {
                request: line.to_owned(),
                status,
                output,
            }),
            Err(_) => Err(Error::Connection(format!("no status of `{line}` but {status}"))),
        }
    }

    /// Types a line that ends the shell; there is no answer.
    pub fn leave(&mut self, line: &str) -> Result<()> {
        self.console.send(line)
    }
}

#[cfg(test)]
mod tests;
