//! Which backends make up the guest's RAM, from `-m`, `-mem-path`, `-mem-prealloc`, `-object`, `-machine` and `-numa`.

use memory::backend::{BackendKind, BackendSpec, Lock, MergeRequest};
use memory::size::ByteSize;

use crate::cli::Args;
use crate::cli::memory_options::ObjectArg;

/// RAM when nothing is said about it.
const DEFAULT_SIZE: ByteSize = ByteSize::mib(128);
/// Id of the backend that exists when none was named.
const DEFAULT_ID: &str = "ram";

/// Memory options that do not fit together.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// `-m 0`.
    #[error("-m: the guest's RAM cannot have size 0")]
    Empty,
    /// Two backends with one id.
    #[error("two backends have the id '{id}'")]
    DuplicateId {
        /// The id.
        id: String,
    },
    /// A backend that was not defined.
    #[error("{option}{id}: there is no backend '{id}'; {known}")]
    UnknownBackend {
        /// The option, up to the id.
        option: &'static str,
        /// The id.
        id: String,
        /// Which there are.
        known: String,
    },
    /// Two options name the backend.
    #[error(
        "'-machine memory-backend={machine}' and '-numa node,memdev={numa}' both name the guest's RAM; use one"
    )]
    NamedTwice {
        /// Id given to `-machine`.
        machine: String,
        /// Id given to `-numa`.
        numa: String,
    },
    /// More than one guest node.
    #[error("-numa node was given {count} times, but this version has one guest node")]
    TooManyNodes {
        /// How often.
        count: usize,
    },
    /// `-mem-path` besides a named backend.
    #[error(
        "-mem-path is for the default backend, but '{id}' is named as the guest's RAM; give that a mem-path="
    )]
    PathUnused {
        /// The backend.
        id: String,
    },
    /// Sizes differ.
    #[error("-m says {ram}, but the backend '{id}' has {backend}; they must be equal")]
    SizeDiffers {
        /// `-m`.
        ram: ByteSize,
        /// The backend's id.
        id: String,
        /// Its size.
        backend: ByteSize,
    },
    /// A backend that cannot be as asked, whatever the host has.
    #[error(transparent)]
    Backend(#[from] memory::backend::SpecError),
}

/// The guest's RAM.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) size: ByteSize,
    pub(super) backends: Vec<BackendSpec>,
}

pub(super) fn plan(args: &Args, warnings: &mut Vec<String>) -> Result<Plan, MemoryError> {
    check_ids(&args.object)?;
    let named = named_backend(args)?;
    for object in args
        .object
        .iter()
        .filter(|object| named.is_none_or(|named| named.id != object.id))
    {
        warnings.push(format!(
            "the backend '{}' is not used: name it with -machine memory-backend= or -numa node,memdev=",
            object.id
        ));
    }
    let object = match named {
        Some(object) => {
            if args.mem_path.is_some() {
                return Err(MemoryError::PathUnused {
                    id: object.id.clone(),
                });
            }
            object.clone()
        }
        None => default_backend(args),
    };
    if object.size.bytes() == 0 && named.is_none() {
        return Err(MemoryError::Empty);
    }
    match args.memory {
        Some(ram) if ram != object.size => {
            return Err(MemoryError::SizeDiffers {
                ram,
                id: object.id,
                backend: object.size,
            });
        }
        _ => {}
    }
    let size = object.size;
    let spec = complete(object, args);
    spec.check()?;
    Ok(Plan {
        size,
        backends: vec![spec],
    })
}

fn check_ids(objects: &[ObjectArg]) -> Result<(), MemoryError> {
    let mut ids: Vec<_> = objects.iter().map(|object| &object.id).collect();
    ids.sort();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(MemoryError::DuplicateId { id: pair[0].clone() }),
        None => Ok(()),
    }
}

/// The backend that `-machine` or `-numa` names.
fn named_backend(args: &Args) -> Result<Option<&ObjectArg>, MemoryError> {
    if args.numa.len() > 1 {
        return Err(MemoryError::TooManyNodes {
            count: args.numa.len(),
        });
    }
    let machine = args
        .machine
        .iter()
        .rev()
        .find_map(|machine| machine.memory_backend.as_ref());
    let numa = args.numa.first().and_then(|node| node.memdev.as_ref());
    let (option, id) = match (machine, numa) {
        (Some(machine), Some(numa)) => {
            return Err(MemoryError::NamedTwice {
                machine: machine.clone(),
                numa: numa.clone(),
            });
        }
        (Some(id), None) => ("-machine memory-backend=", id),
        (None, Some(id)) => ("-numa node,memdev=", id),
        (None, None) => return Ok(None),
    };
    let found = args.object.iter().find(|object| object.id == *id);
    found.map(Some).ok_or_else(|| MemoryError::UnknownBackend {
        option,
        id: id.clone(),
        known: known(&args.object),
    })
}

fn known(objects: &[ObjectArg]) -> String {
    let ids: Vec<_> = objects.iter().map(|object| format!("'{}'", object.id)).collect();
    match ids.is_empty() {
        true => "-object memory-backend-… defines one".to_owned(),
        false => format!("known: {}", ids.join(", ")),
    }
}

/// The backend that there is when none was named.
fn default_backend(args: &Args) -> ObjectArg {
    let kind = args.mem_path.as_ref().map_or(BackendKind::Ram, BackendKind::file);
    ObjectArg::new(DEFAULT_ID, kind, args.memory.unwrap_or(DEFAULT_SIZE))
}

/// Fills in what the object did not say. What it did say wins over the machine-wide options, as with QEMU.
fn complete(object: ObjectArg, args: &Args) -> BackendSpec {
    let machine = || args.machine.iter().rev();
    let mem_lock = args
        .overcommit
        .iter()
        .rev()
        .find_map(|overcommit| overcommit.mem_lock);
    let lock = object.lock.or(mem_lock).unwrap_or_default();
    let merge = match object.merge {
        Some(true) => MergeRequest::On,
        Some(false) => MergeRequest::Off,
        None => MergeRequest::Default(machine().find_map(|machine| machine.mem_merge).unwrap_or(false)),
    };
    BackendSpec {
        share: object.share,
        reserve: object.reserve,
        // What is locked from the start is there from the start.
        prealloc: object.prealloc.unwrap_or(args.mem_prealloc || lock == Lock::On),
        prealloc_threads: object.prealloc_threads,
        merge,
        thp: object.thp,
        lock,
        policy: object.policy,
        strict: object.strict,
        dump: (object.dump)
            .or(machine().find_map(|machine| machine.dump_guest_core))
            .unwrap_or(true),
        ..BackendSpec::new(object.id, object.kind, object.size)
    }
}
