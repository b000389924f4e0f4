//! The balloon, and what of it depends on the guest's memory.

use devices::virtio::balloon::{BalloonSpec, Reporting};
use memory::backend::{BackendSpec, Lock, Prealloc};
use memory::size::ByteSize;

use crate::cli::device::BalloonArg;

/// A balloon that does not fit the guest's memory.
#[derive(Debug, thiserror::Error)]
pub enum BalloonMismatch {
    /// More than there is.
    #[error("balloon '{id}': {property}={size} is more than the guest's RAM of {ram}")]
    AboveRam {
        /// The balloon.
        id: String,
        /// The property.
        property: &'static str,
        /// What it says.
        size: ByteSize,
        /// RAM.
        ram: ByteSize,
    },
    /// A first target that no later one could equal.
    #[error("balloon '{id}': initial={initial} is below the floor, min={min}")]
    InitialBelowFloor {
        /// The balloon.
        id: String,
        /// `initial=`.
        initial: ByteSize,
        /// `min=`.
        min: ByteSize,
    },
}

/// Checks `arg` against the guest's memory, and decides whether the guest shall report free pages.
pub(super) fn spec(
    arg: BalloonArg,
    ram: ByteSize,
    backends: &[BackendSpec],
) -> Result<BalloonSpec, BalloonMismatch> {
    for (property, size) in [("initial", arg.initial), ("min", Some(arg.min))] {
        if let Some(size) = size.filter(|size| *size > ram) {
            return Err(BalloonMismatch::AboveRam {
                id: arg.id,
                property,
                size,
                ram,
            });
        }
    }
    if let Some(initial) = arg.initial.filter(|initial| *initial < arg.min) {
        return Err(BalloonMismatch::InitialBelowFloor {
            id: arg.id,
            initial,
            min: arg.min,
        });
    }
    Ok(BalloonSpec {
        id: arg.id,
        deflate_on_oom: arg.deflate_on_oom,
        page_poison: arg.page_poison,
        reporting: reporting(arg.reporting, backends),
        min: arg.min,
        initial: arg.initial,
        stats_interval: arg.stats_interval,
        deflate_on_distress: arg.deflate_on_distress,
    })
}

/// Free page reporting is on unless somebody said no, or wants the pages to be there before they are needed.
fn reporting(asked: Option<bool>, backends: &[BackendSpec]) -> Reporting {
    match asked {
        Some(true) => return Reporting::On,
        Some(false) => return Reporting::Off("free-page-reporting=off".to_owned()),
        None => {}
    }
    let state = |backend: &BackendSpec| match (backend.lock, backend.prealloc) {
        (Lock::On | Lock::OnFault, _) => Some("locked"),
        (Lock::Off, Prealloc::On | Prealloc::Background) => Some("preallocated"),
        (Lock::Off, Prealloc::Off) => None,
    };
    let kept = backends
        .iter()
        .find_map(|backend| Some((&backend.id, state(backend)?)));
    kept.map_or(Reporting::On, |(id, state)| {
        Reporting::Off(format!(
            "the memory of backend '{id}' is {state}; free-page-reporting=on gives it back all the same"
        ))
    })
}
