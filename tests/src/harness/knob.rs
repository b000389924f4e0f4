//! Settings of the host that a test changes and puts back, also when it fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::{Error, Result};

/// A changed setting; dropping it restores what was there before.
#[derive(Debug)]
pub struct Knob {
    path: PathBuf,
    before: String,
}

impl Knob {
    /// Writes a value to a file of `/sys` or `/proc/sys`.
    pub fn set(path: &Path, value: &str) -> Result<Knob> {
        let before = fs::read_to_string(path).map_err(Error::file("read", path))?;
        let knob = Knob {
            path: path.to_owned(),
            before: chosen(&before),
        };
        fs::write(path, value).map_err(Error::file("write", path))?;
        Ok(knob)
    }
}

impl Drop for Knob {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.path, &self.before) {
            eprintln!(
                "cannot put {:?} back into {}: {error}",
                self.before,
                self.path.display()
            );
        }
    }
}

/// A changed setting of a machine that is not ours alone: it goes back also when this process is killed, because another one
/// waits for that.
#[derive(Debug)]
pub struct Kept {
    keeper: Child,
    path: PathBuf,
}

/// Waits until its input ends, and writes its first argument to the file that is its second.
const KEEPER: &str = "trap '' INT TERM HUP; cat > /dev/null; printf %s \"$1\" > \"$2\"";

impl Kept {
    /// Writes a value to a file of `/sys` or `/proc/sys`.
    pub fn set(path: &Path, value: &str) -> Result<Kept> {
        let before = fs::read_to_string(path).map_err(Error::file("read", path))?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "keeper", &chosen(&before)]).arg(path);
        let keeper = command.stdin(Stdio::piped()).spawn();
        let kept = Kept {
            keeper: keeper.map_err(Error::file("keep", path))?,
            path: path.to_owned(),
        };
        fs::write(path, value).map_err(Error::file("write", path))?;
        Ok(kept)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        if !self.keeper.wait().is_ok_and(|status| status.success()) {
            eprintln!("cannot put back what was in {}", self.path.display());
        }
    }
}

/// What to write to get a state back: of `always [madvise] never` the word in brackets.
fn chosen(text: &str) -> String {
    let inner = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or(text.trim(), |(word, _)| word).to_owned()
}

#[cfg(test)]
mod tests;
