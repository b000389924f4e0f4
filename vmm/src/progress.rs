//! What a user sees of a start that takes long: a progress bar on a terminal. The same calls mark the stages of a start.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::sync::{Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use memory::backend::{OpenObserver, OpenStage};
use memory::size::ByteSize;

use crate::stage::{Freezer, Stage};

/// Shows how far the backends are.
#[derive(Debug)]
pub struct Progress {
    freezer: Freezer,
    bars: Option<MultiProgress>,
    by_backend: Mutex<BTreeMap<String, ProgressBar>>,
}

impl Progress {
    /// Bars when stderr is a terminal, silence otherwise.
    pub fn new(freezer: Freezer) -> Progress {
        let bars = stderr().is_terminal().then(MultiProgress::new);
        Progress {
            freezer,
            bars,
            by_backend: Mutex::new(BTreeMap::new()),
        }
    }
}

impl OpenObserver for Progress {
    fn stage(&self, backend: &str, stage: OpenStage) {
        tracing::debug!("backend '{backend}': {stage:?}");
        match stage {
            OpenStage::Mapped => self.freezer.reached(Stage::Mapped),
            OpenStage::Hinted => self.freezer.reached(Stage::Hinted),
            OpenStage::Bound => self.freezer.reached(Stage::Bound),
            OpenStage::PreallocHalf => self.freezer.reached(Stage::PreallocHalf),
            OpenStage::Preallocated => self.freezer.reached(Stage::Preallocated),
            OpenStage::Verified => {}
        }
    }

    fn prealloc(&self, backend: &str, done: ByteSize, total: ByteSize) {
        let Some(bars) = &self.bars else { return };
        let mut by_backend = self.by_backend.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = by_backend.entry(backend.to_owned()).or_insert_with(|| {
            let style =
                ProgressStyle::with_template("{msg} {bar:40} {binary_bytes}/{binary_total_bytes} {eta}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
            bars.add(ProgressBar::new(total.bytes()))
                .with_style(style)
                .with_message(backend.to_owned())
        });
        bar.set_position(done.bytes());
        if done == total {
            bar.finish_and_clear();
        }
    }
}
