//! Pages that lie where the policy of their backend does not want them.

use std::collections::BTreeMap;
use std::fmt;
use std::io;

use crate::backend::{BackendSpec, HostPolicy};
use crate::mapping::Mapping;
use crate::policy;
use crate::proc;
use crate::size::ByteSize;

/// What lies on host nodes that have more of a backend than its policy gives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misplaced {
    id: String,
    policy: HostPolicy,
    /// Bytes too many on each node that has any.
    pub nodes: BTreeMap<u32, ByteSize>,
}

impl Misplaced {
    /// `complete`: all pages were there at the start, so that an interleaving can be judged.
    pub(super) fn find(spec: &BackendSpec, mapping: &Mapping, complete: bool) -> io::Result<Option<Self>> {
        if spec.policy.nodes().is_none() {
            return Ok(None);
        }
        // A kernel without NUMA has one node.
        let Some(found) = proc::numa_maps(mapping)? else {
            return Ok(None);
        };
        let nodes = policy::misplaced(&found, &spec.policy, complete, 0);
        Ok((!nodes.is_empty()).then(|| Self {
            id: spec.id.clone(),
            policy: spec.policy.clone(),
            nodes,
        }))
    }
}

impl std::error::Error for Misplaced {}

/// `backend 'mem0' has policy bind 1, but 2 MiB too much on node 0`.
impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "backend '{}' has policy {}, but ", self.id, self.policy)?;
        let mut comma = "";
        for (node, size) in &self.nodes {
            write!(f, "{comma}{size} too much on node {node}")?;
            comma = ", ";
        }
        Ok(())
    }
}
