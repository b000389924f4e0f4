//! What the host holds for the guest's memory, read now and then.
//!
//! A reading makes the kernel walk the guest's page tables, which takes milliseconds for each GiB. So a short-lived thread does
//! it, one at a time, while the main thread serves others; and a sample serves all who ask within a second.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use devices::virtio::balloon::{BackendFigures, BalloonHandle};
use memory::ram::{Observed, OpenBackend, Ram};
use memory::residency::Residency;
use rustix::time::{ClockId, clock_gettime};

use crate::misplaced::{Misplaced, MisplacedWatch};
use crate::news::{News, NewsSender};

/// How old a sample may be that serves somebody.
pub const MAX_AGE: Duration = Duration::from_secs(1);

/// What the host held at one moment.
#[derive(Clone, Debug)]
pub struct Sample {
    /// When the reading began.
    pub at: Instant,
    /// Processor time that it took.
    pub cpu: Duration,
    /// For each backend, in their order.
    pub backends: Vec<Residency>,
    /// For each backend that is not the guest's, by its serial number.
    pub objects: BTreeMap<u64, Residency>,
    /// What the balloon had done with each backend before the reading began, so that what is discarded meanwhile does not look
    /// as if it had come back. Empty without a balloon.
    pub figures: Vec<BackendFigures>,
}

impl Sample {
    /// Reads it now.
    ///
    /// # Errors
    /// When /proc or a backing file cannot be read.
    pub fn take(ram: &Ram, objects: &[Observed], balloon: Option<&BalloonHandle>) -> io::Result<Sample> {
        let (at, before) = (Instant::now(), cpu_time());
        let figures = balloon.map(BalloonHandle::by_backend).unwrap_or_default();
        let mut backends = ram.residency_with(objects)?;
        let found = backends.split_off(ram.backends().len());
        let objects = objects.iter().map(Observed::serial).zip(found).collect();
        Ok(Sample {
            at,
            cpu: cpu_time().saturating_sub(before),
            backends,
            objects,
            figures,
        })
    }

    /// What it says of a backend that is not the guest's; `None` of one that came later.
    pub fn object(&self, object: &OpenBackend) -> Option<&Residency> {
        self.objects.get(&object.serial())
    }

    /// Whether it says something of all these.
    pub fn knows(&self, objects: &[OpenBackend]) -> bool {
        objects.iter().all(|object| self.object(object).is_some())
    }

    /// How long ago it was.
    pub fn age(&self) -> Duration {
        self.at.elapsed()
    }
}

/// Processor time of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The result of a reading; the text says why there is none.
pub type Sampled = Result<Arc<Sample>, String>;

/// Takes samples, and keeps the last.
#[derive(Debug)]
pub struct Sampler {
    ram: Ram,
    balloon: Option<BalloonHandle>,
    news: NewsSender,
    last: Option<Sampled>,
    misplaced: MisplacedWatch,
    /// The thread that reads now.
    reader: Option<JoinHandle<()>>,
}

impl Sampler {
    /// No sample yet.
    pub fn new(ram: Ram, balloon: Option<BalloonHandle>, news: NewsSender) -> Sampler {
        Sampler {
            ram,
            balloon,
            news,
            last: None,
            misplaced: MisplacedWatch::default(),
            reader: None,
        }
    }

    /// Whether [`Sampler::last`] can be told now, also of `objects`, the backends that are not the guest's. Where not, a sample is
    /// being taken from here on, if it was not before, and [`News::Sampled`] comes.
    pub fn is_ready(&mut self, objects: &[OpenBackend]) -> bool {
        if matches!(&self.last, Some(Ok(sample)) if sample.age() <= MAX_AGE && sample.knows(objects)) {
            return true;
        }
        if self.reader.is_some() {
            return false;
        }
        let (ram, balloon, news) = (self.ram.clone(), self.balloon.clone(), self.news.clone());
        let objects: Vec<Observed> = objects.iter().map(OpenBackend::observed).collect();
        let read = move || {
            let sample = Sample::take(&ram, &objects, balloon.as_ref());
            // Who is told shall not wait for the memory to be unmapped, should this be its last user.
            drop((ram, objects, balloon));
            let failed = |error: io::Error| format!("cannot read what the host holds: {error}");
            news.send(News::Sampled(sample.map(Arc::new).map_err(failed)));
        };
        match thread::Builder::new().name("sampler".to_owned()).spawn(read) {
            Ok(reader) => {
                self.reader = Some(reader);
                false
            }
            Err(error) => {
                self.last = Some(Err(format!(
                    "cannot start a thread that reads what the host holds: {error}"
                )));
                true
            }
        }
    }

    /// The reader has come to an end. Returns what it found elsewhere than it should be, and had not before.
    pub fn hear(&mut self, sampled: Sampled) -> Vec<Misplaced> {
        let found = match &sampled {
            Ok(sample) => self.misplaced.look(&self.ram, sample),
            Err(_) => Vec::new(),
        };
        self.last = Some(sampled);
        self.join();
        for misplaced in &found {
            eprintln!("ballast: warning: {misplaced}");
        }
        found
    }

    /// The last that was taken.
    ///
    /// # Errors
    /// Why there is none.
    pub fn last(&self) -> Sampled {
        let none = || Err("the host takes long to tell what it holds; ask again".to_owned());
        self.last.clone().unwrap_or_else(none)
    }

    fn join(&mut self) {
        if let Some(reader) = self.reader.take()
            && reader.join().is_err()
        {
            tracing::warn!("the thread that reads what the host holds has panicked");
        }
    }
}

impl Drop for Sampler {
    /// The memory goes with its last user, who has to be the main thread: the end of the process would cut others off.
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests;
