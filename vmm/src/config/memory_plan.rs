//! Which backends make up the guest's RAM, from `-m`, `-mem-path`, `-mem-prealloc`, `-object`, `-machine` and `-numa`.

use memory::backend::{BackendKind, BackendSpec, Lock, MergeRequest, Prealloc};
use memory::size::ByteSize;

use super::numa_plan::Node;
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
    /// Several nodes, and no memory in any.
    #[error(
        "none of the {count} nodes has memory: -numa node,memdev= names the backend of each that shall have some"
    )]
    NodesWithoutMemory {
        /// How many nodes.
        count: usize,
    },
    /// One backend in two nodes.
    #[error("the backend '{id}' is the memory of node {first} and of node {second}; each needs its own")]
    SharedByNodes {
        /// The backend.
        id: String,
        /// One node.
        first: usize,
        /// The other.
        second: usize,
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
    #[error("-m says {ram}, but {what} {backends}; they must be equal")]
    SizeDiffers {
        /// `-m`.
        ram: ByteSize,
        /// The backends, with the verb.
        what: String,
        /// Their size.
        backends: ByteSize,
    },
    /// More than 2^64 bytes.
    #[error("the backends have more than 2^64 - 1 bytes together")]
    TooLarge,
    /// A backend that cannot be as asked, whatever the host has.
    #[error(transparent)]
    Backend(#[from] memory::backend::SpecError),
}

/// The guest's RAM.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) size: ByteSize,
    /// In the order of guest addresses.
    pub(super) backends: Vec<BackendSpec>,
    /// Backends that are made, and no part of the guest.
    pub(super) objects: Vec<BackendSpec>,
    pub(super) defaults: BackendDefaults,
}

pub(super) fn plan(args: &Args, nodes: &[Node], warnings: &mut Vec<String>) -> Result<Plan, MemoryError> {
    let named = named_backends(args, nodes)?;
    let unused = |object: &&ObjectArg| named.iter().all(|(_, named)| named.id != object.id);
    for object in args.backends().filter(unused) {
        warnings.push(format!(
            "the backend '{}' is made, but the guest does not use it: name it with -machine memory-backend= or \
             -numa node,memdev=",
            object.id
        ));
    }
    if let (Some((_, object)), Some(_)) = (named.first(), &args.mem_path) {
        return Err(MemoryError::PathUnused {
            id: object.id.clone(),
        });
    }
    let objects = match &named[..] {
        [] => vec![(0, default_backend(args)?)],
        named => (named.iter().map(|(node, object)| (*node, (*object).clone()))).collect(),
    };
    let size = check_size(args, &objects)?;
    let defaults = BackendDefaults::new(args);
    let backends: Vec<_> = objects
        .into_iter()
        .map(|(node, object)| BackendSpec {
            guest_node: u32::try_from(node).unwrap_or(u32::MAX),
            ..defaults.complete(object)
        })
        .collect();
    let unused = args.backends().filter(unused).cloned();
    let objects: Vec<_> = unused.map(|object| defaults.complete(object)).collect();
    for spec in backends.iter().chain(&objects) {
        spec.check()?;
    }
    Ok(Plan {
        size,
        backends,
        objects,
        defaults,
    })
}

/// The sum of the backends, which is what `-m` says.
fn check_size(args: &Args, objects: &[(usize, ObjectArg)]) -> Result<ByteSize, MemoryError> {
    let sum = (objects.iter()).try_fold(ByteSize::ZERO, |sum, (_, object)| sum.checked_add(object.size));
    let backends = sum.ok_or(MemoryError::TooLarge)?;
    match (args.memory, objects) {
        (Some(ram), _) if ram == backends => Ok(backends),
        (None, _) => Ok(backends),
        (Some(ram), [(_, object)]) => Err(MemoryError::SizeDiffers {
            ram,
            what: format!("the backend '{}' has", object.id),
            backends,
        }),
        (Some(ram), _) => Err(MemoryError::SizeDiffers {
            ram,
            what: "the backends of the nodes have together".to_owned(),
            backends,
        }),
    }
}

/// The backends that `-machine` or `-numa` names, each with its node; none where the default backend is the RAM.
fn named_backends<'a>(args: &'a Args, nodes: &[Node]) -> Result<Vec<(usize, &'a ObjectArg)>, MemoryError> {
    let machine = args
        .machine
        .iter()
        .rev()
        .find_map(|machine| machine.memory_backend.as_ref());
    let find = |option, id: &String| {
        let found = args.backends().find(|object| object.id == *id);
        found.ok_or_else(|| MemoryError::UnknownBackend {
            option,
            id: id.clone(),
            known: known(args),
        })
    };
    let mut named: Vec<(usize, &ObjectArg)> = Vec::new();
    for (node, memdev) in nodes.iter().map(|node| &node.memdev).enumerate() {
        let Some(id) = memdev else { continue };
        if let Some(machine) = machine {
            return Err(MemoryError::NamedTwice {
                machine: machine.clone(),
                numa: id.clone(),
            });
        }
        if let Some((first, _)) = named.iter().find(|(_, object)| object.id == *id) {
            return Err(MemoryError::SharedByNodes {
                id: id.clone(),
                first: *first,
                second: node,
            });
        }
        named.push((node, find("-numa node,memdev=", id)?));
    }
    match (machine, nodes.len()) {
        _ if !named.is_empty() => Ok(named),
        (_, count @ 2..) => Err(MemoryError::NodesWithoutMemory { count }),
        (Some(id), _) => Ok(vec![(0, find("-machine memory-backend=", id)?)]),
        (None, _) => Ok(Vec::new()),
    }
}

fn known(args: &Args) -> String {
    let ids: Vec<_> = args.backends().map(|object| format!("'{}'", object.id)).collect();
    match ids.is_empty() {
        true => "-object memory-backend-… defines one".to_owned(),
        false => format!("known: {}", ids.join(", ")),
    }
}

/// The backend that there is when none was named.
fn default_backend(args: &Args) -> Result<ObjectArg, MemoryError> {
    let size = args.memory.unwrap_or(DEFAULT_SIZE);
    if size == ByteSize::ZERO {
        return Err(MemoryError::Empty);
    }
    let kind = args.mem_path.as_ref().map_or(BackendKind::Ram, BackendKind::file);
    Ok(ObjectArg::new(DEFAULT_ID, kind, size))
}

/// What holds for backends that say nothing else, at the start and for those that come later.
#[derive(Clone, Copy, Debug, Default)]
pub struct BackendDefaults {
    lock: Lock,
    prealloc: bool,
    merge: bool,
    no_dump: bool,
}

impl BackendDefaults {
    pub(super) fn new(args: &Args) -> BackendDefaults {
        let machine = || args.machine.iter().rev();
        let mut overcommit = args.overcommit.iter().rev();
        BackendDefaults {
            lock: overcommit
                .find_map(|overcommit| overcommit.mem_lock)
                .unwrap_or_default(),
            prealloc: args.mem_prealloc,
            merge: machine().find_map(|machine| machine.mem_merge).unwrap_or(false),
            no_dump: machine().find_map(|machine| machine.dump_guest_core) == Some(false),
        }
    }

    /// Fills in what the object did not say. What it did say wins over the machine-wide options, as with QEMU.
    pub fn complete(&self, object: ObjectArg) -> BackendSpec {
        let lock = object.lock.unwrap_or(self.lock);
        let merge = match object.merge {
            Some(true) => MergeRequest::On,
            Some(false) => MergeRequest::Off,
            None => MergeRequest::Default(self.merge),
        };
        // What is locked from the start is there from the start.
        let prealloc = match self.prealloc || lock == Lock::On {
            true => Prealloc::On,
            false => Prealloc::Off,
        };
        BackendSpec {
            share: object.share,
            reserve: object.reserve,
            prealloc: object.prealloc.unwrap_or(prealloc),
            prealloc_threads: object.prealloc_threads,
            merge,
            thp: object.thp,
            lock,
            policy: object.policy,
            strict: object.strict,
            dump: object.dump.unwrap_or(!self.no_dump),
            ..BackendSpec::new(object.id, object.kind, object.size)
        }
    }
}
