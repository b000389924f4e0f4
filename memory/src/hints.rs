//! What the kernel is told about a mapping beside where its pages lie. A success says nothing; what took effect is read back
//! by [`crate::effective`].

use std::io;

use thiserror::Error;

use crate::backend::{Backend, BackendSpec, MergeRequest, Thp};
use crate::host::ksm;
use crate::mapping::{Advice, Mapping};

/// A hint that the kernel refused.
#[derive(Debug, Error)]
#[error("the kernel refuses {name}")]
pub struct HintError {
    /// The hint, as the user writes it.
    name: &'static str,
    source: io::Error,
}

/// Gives the hints in their order: transparent huge pages before anything is touched, then merge, dump, fork. Returns
/// warnings about defaults that cannot take effect.
pub(crate) fn apply(
    mapping: &Mapping,
    backend: &dyn Backend,
    spec: &BackendSpec,
) -> Result<Vec<String>, HintError> {
    let give = |advice, name| {
        let result = mapping.advise(mapping.whole(), advice);
        result.map_err(|source| HintError { name, source })
    };
    if !backend.page_size().is_huge() {
        let given = match spec.thp {
            Thp::On => give(Advice::HugePage, "thp=on"),
            // Pages of a disk are read and written whole; nobody asked for that.
            Thp::Default if backend.caches_disk() => Ok(()),
            Thp::Default => give(Advice::HugePage, "transparent huge pages"),
            Thp::Off => mapping.forbid_huge().map_err(|source| HintError {
                name: "thp=off",
                source,
            }),
        };
        match given {
            // A kernel without transparent huge pages.
            Err(error) if spec.thp != Thp::On && error.source.raw_os_error() == Some(libc::EINVAL) => {}
            result => result?,
        }
    }
    let mut warnings = Vec::new();
    match spec.merge {
        MergeRequest::Off | MergeRequest::Default(false) => {}
        MergeRequest::Default(true) if backend.is_shared() => warnings.push(format!(
            "mem-merge=on has no effect on backend '{}': KSM does not merge {}",
            spec.id,
            backend.describe()
        )),
        MergeRequest::Default(true) => {
            if let Err(error) = give(Advice::Mergeable, "merge=on") {
                let reason = error.source;
                warnings.push(format!(
                    "mem-merge=on has no effect on backend '{}': {reason}",
                    spec.id
                ));
            }
        }
        MergeRequest::On => give(Advice::Mergeable, "merge=on")?,
    }
    let merges = spec.merge.wanted() && warnings.is_empty();
    if merges && !ksm::host().is_some_and(|host| host.is_running()) {
        warnings.push(format!(
            "backend '{}' may be merged, but ksmd is not running: as root, echo 1 > /sys/kernel/mm/ksm/run",
            spec.id
        ));
    }
    if !spec.dump {
        give(Advice::DontDump, "dump=off")?;
    }
    give(Advice::DontFork, "a mapping that children do not inherit")?;
    Ok(warnings)
}
