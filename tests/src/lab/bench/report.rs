//! Figures on their way: from what measures them to the table.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use super::budget::Row;
use super::measured::Measured;
use super::table;
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

/// Shows what an area writes as it comes, since an area may take long or fail, and keeps it for [`Collector::take`].
#[derive(Clone, Debug, Default)]
pub struct Collector {
    told: Arc<Mutex<Told>>,
}

#[derive(Debug, Default)]
struct Told {
    /// The beginning of a line.
    partial: Vec<u8>,
    figures: Vec<Measured>,
    failure: Option<String>,
}

impl Told {
    /// One figure in a line of JSON.
    fn line(&mut self, line: &[u8]) {
        match serde_json::from_slice::<Measured>(line) {
            Ok(measured) => {
                println!("{}", table::row(&Row::new(measured.clone())));
                self.figures.push(measured);
            }
            Err(error) => {
                let line = String::from_utf8_lossy(line);
                self.failure = Some(format!("an area said {line:?}: {error}"));
            }
        }
    }
}

impl Collector {
    /// The figures that have come.
    pub fn take(&self) -> Result<Vec<Measured>> {
        let told = std::mem::take(&mut *self.told.lock().unwrap_or_else(PoisonError::into_inner));
        told.failure
            .map_or(Ok(told.figures), |text| Err(Error::Failed(text)))
    }
}

impl Write for Collector {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.partial.extend_from_slice(bytes);
        while let Some(end) = told.partial.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = told.partial.drain(..=end).collect();
            told.line(&line);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
