//! Keys typed at a terminal that guest and monitor share: who gets them, and what Ctrl-A before a key means, as with QEMU.

/// Ctrl-A.
const ESCAPE: u8 = 0x01;

/// What is said after Ctrl-A H.
pub const HELP: &str = "\nCtrl-A H  print this help\nCtrl-A C  switch between the guest's serial port and the monitor\n\
                        Ctrl-A X  end Ballast\nCtrl-A Ctrl-A  send Ctrl-A to the guest\n";

/// What typing comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Typed {
    /// For the guest's serial port.
    Serial(Vec<u8>),
    /// A piece of a line, or lines, for the monitor.
    Monitor(Vec<u8>),
    /// What shows the user the line that is being typed.
    Echo(String),
    /// The monitor is listened to from here on.
    Focus,
    /// The help is asked for.
    Help,
    /// The end is.
    Quit,
}

/// Where the keys go now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys {
    /// The last key was Ctrl-A.
    escaped: bool,
    monitor: bool,
    /// The monitor's line, not complete yet: the terminal edits none, since it hands over every key at once.
    line: String,
    /// A character of several bytes, not complete yet.
    part: Vec<u8>,
}

/// Bytes of a line for the monitor; what comes then is not taken.
const MOST_LINE: usize = 4096;

impl Keys {
    /// Takes what was typed.
    pub fn typed(&mut self, bytes: &[u8]) -> Vec<Typed> {
        let mut all = Vec::new();
        for byte in bytes {
            match (std::mem::take(&mut self.escaped), *byte) {
                (false, ESCAPE) => self.escaped = true,
                (true, b'h' | b'H' | b'?') => all.push(Typed::Help),
                (true, b'x' | b'X') => all.push(Typed::Quit),
                (true, b'c' | b'C') => {
                    self.monitor = !self.monitor;
                    self.line.clear();
                    self.part.clear();
                    if self.monitor {
                        all.push(Typed::Focus);
                    }
                }
                (false, key) | (true, key @ ESCAPE) => match (self.monitor, all.last_mut()) {
                    (true, _) => self.edit(key, &mut all),
                    (false, Some(Typed::Serial(before))) => before.push(key),
                    (false, _) => all.push(Typed::Serial(vec![key])),
                },
                // No other key means anything after it.
                (true, _) => {}
            }
        }
        all
    }

    /// A key for the monitor's line.
    fn edit(&mut self, key: u8, all: &mut Vec<Typed>) {
        match key {
            b'\r' | b'\n' => {
                let mut line = std::mem::take(&mut self.line).into_bytes();
                line.push(b'\n');
                all.extend([Typed::Echo("\n".to_owned()), Typed::Monitor(line)]);
            }
            // Backspace, as different terminals send it.
            0x08 | 0x7f => {
                let wiped = self.line.pop().map(|_| Typed::Echo("\u{8} \u{8}".to_owned()));
                all.extend(wiped);
            }
            // Ctrl-U.
            0x15 => {
                let wipe = "\u{8} \u{8}".repeat(self.line.chars().count());
                self.line.clear();
                all.push(Typed::Echo(wipe));
            }
            0x20.. if self.line.len() < MOST_LINE => {
                self.part.push(key);
                match str::from_utf8(&self.part) {
                    Ok(text) => {
                        self.line.push_str(text);
                        all.push(Typed::Echo(text.to_owned()));
                        self.part.clear();
                    }
                    // The rest of the character is still to come.
                    Err(error) if error.error_len().is_none() => {}
                    Err(_) => self.part.clear(),
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
