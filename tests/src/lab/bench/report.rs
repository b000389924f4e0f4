//! Figures on their way: from what measures them to the table.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::measured::Measured;
use crate::lab::{Error, Result};

/// Takes the figures of one area.
#[expect(missing_debug_implementations, reason = "a closure has none")]
pub struct Report<'a> {
    other: String,
    take: &'a mut dyn FnMut(Measured),
}

impl<'a> Report<'a> {
    /// A report in which the other program has this name.
    pub fn new(other: String, take: &'a mut dyn FnMut(Measured)) -> Report<'a> {
        Report { other, take }
    }

    /// Pairs of Ballast and the other program.
    pub fn pairs(&mut self, name: &str, unit: &str, pairs: &[(f64, f64)]) {
        let measured = Measured::pairs(name, unit, &self.other, pairs);
        measured.into_iter().for_each(&mut *self.take);
    }

    /// Pairs of Ballast and something else than the other program.
    pub fn pairs_with(&mut self, other: &str, name: &str, unit: &str, pairs: &[(f64, f64)]) {
        let measured = Measured::pairs(name, unit, other, pairs);
        measured.into_iter().for_each(&mut *self.take);
    }

    /// Figures of Ballast alone.
    pub fn alone(&mut self, name: &str, unit: &str, samples: &[f64]) {
        let measured = Measured::alone(name, unit, samples);
        measured.into_iter().for_each(&mut *self.take);
    }

    /// Says how far it is.
    pub fn note(&self, text: &str) {
        eprintln!("bench: {text}");
    }
}

/// Keeps what an area writes, for [`Collector::take`].
#[derive(Clone, Debug, Default)]
pub struct Collector {
    bytes: Arc<Mutex<Vec<u8>>>,
}

impl Collector {
    /// The figures: one in each line.
    pub fn take(&self) -> Result<Vec<Measured>> {
        let bytes = std::mem::take(&mut *self.bytes.lock().unwrap_or_else(PoisonError::into_inner));
        let text = String::from_utf8_lossy(&bytes);
        text.lines()
            .map(|line| {
                serde_json::from_str(line)
                    .map_err(|error| Error::Failed(format!("an area said {line:?}: {error}")))
            })
            .collect()
    }
}

impl Write for Collector {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
