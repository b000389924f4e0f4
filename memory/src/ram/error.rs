//! Why a guest cannot have the RAM that was asked for.

use std::io;

use thiserror::Error;

use super::{Misplaced, OverLimit, Shortage};
use crate::backend::{HostPolicy, NodeSet, OpenError, SpecError};
use crate::hints::HintError;
use crate::layout::LayoutError;
use crate::size::ByteSize;

/// Why a guest cannot have the RAM that was asked for.
#[derive(Debug, Error)]
pub enum RamError {
    /// It cannot work on any host.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The backends do not fit together.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// A node that the host does not have.
    #[error("backend '{id}' asks for host node {nodes}, which has no memory: this host has {available}")]
    Node {
        /// The backend.
        id: String,
        /// The nodes that are not there.
        nodes: NodeSet,
        /// Those that are.
        available: NodeSet,
    },
    /// A node of which this process may have no memory.
    #[error(
        "backend '{id}' asks for host node {nodes}, but the cpuset of the control group has only memory of node {allowed}{file}: \
         choose among them, or give the group more"
    )]
    NodeForbidden {
        /// The backend.
        id: String,
        /// The nodes that are not allowed.
        nodes: NodeSet,
        /// Those that are.
        allowed: NodeSet,
        /// ` (FILE)`, where the group says so.
        file: String,
    },
    /// The host does not have the source.
    #[error("cannot open backend '{id}'")]
    Open {
        /// The backend.
        id: String,
        /// Why.
        source: OpenError,
    },
    /// Not enough huge pages.
    #[error(transparent)]
    Shortage(#[from] Shortage),
    /// A control group allows fewer huge pages.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// Not enough room in the file system.
    #[error(
        "backend '{id}' needs {needed}, but the {place} has room for {room}: make the file system larger"
    )]
    Room {
        /// The backend.
        id: String,
        /// What it needs.
        needed: ByteSize,
        /// Where it is.
        place: String,
        /// What is left there.
        room: ByteSize,
    },
    /// The mapping was refused.
    #[error("cannot map {size} of {what} for backend '{id}'{hint}")]
    Map {
        /// The backend.
        id: String,
        /// Its size.
        size: ByteSize,
        /// What it is.
        what: String,
        /// What may help.
        hint: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A hint was refused.
    #[error("backend '{id}'")]
    Hint {
        /// The backend.
        id: String,
        /// Which, and why.
        source: HintError,
    },
    /// The policy was refused.
    #[error("cannot set the policy '{policy}' of backend '{id}'{hint}")]
    Policy {
        /// The backend.
        id: String,
        /// The policy with its nodes.
        policy: HostPolicy,
        /// What it probably was.
        hint: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The memory cannot be locked.
    #[error("cannot lock {size} of backend '{id}'{hint}")]
    Lock {
        /// The backend.
        id: String,
        /// Its size.
        size: ByteSize,
        /// The limit, where there is one.
        hint: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The preallocation stopped.
    #[error("cannot preallocate {size} for backend '{id}'{place}: stopped at {offset}{hint}")]
    Prealloc {
        /// The backend.
        id: String,
        /// Its size.
        size: ByteSize,
        /// ` on node 1`, where it is bound.
        place: String,
        /// The first byte that is missing.
        offset: ByteSize,
        /// What it probably was.
        hint: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// There is no memory for what the guest finds when it starts.
    #[error("cannot load the guest: backend '{id}'{place} has no memory for the {len} at {offset}{hint}")]
    Provide {
        /// The backend.
        id: String,
        /// ` on node 1`, where it is bound.
        place: String,
        /// Where the piece begins that could not be had as a whole.
        offset: ByteSize,
        /// Its length.
        len: ByteSize,
        /// What it probably was.
        hint: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The preallocation was told to stop, and the start with it.
    #[error("the preallocation was cancelled when {done} of {total} were there")]
    Cancelled {
        /// What was there.
        done: ByteSize,
        /// What should have been.
        total: ByteSize,
    },
    /// Something that the user typed did not take effect.
    #[error("backend '{id}' has {property}, which did not take effect on {what}{hint}")]
    NotEffective {
        /// The backend.
        id: String,
        /// What was typed.
        property: String,
        /// What the memory is.
        what: String,
        /// Why, where it is known.
        hint: String,
    },
    /// Pages are elsewhere, with `strict=on`.
    #[error(transparent)]
    Misplaced(#[from] Misplaced),
    /// What took effect cannot be read.
    #[error("cannot read back the state of backend '{id}'")]
    ReadBack {
        /// The backend.
        id: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// vm-memory does not take the regions.
    #[error("cannot put the backends together")]
    Assemble {
        /// Why.
        source: vm_memory::GuestRegionCollectionError,
    },
}
