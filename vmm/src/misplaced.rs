//! Memory that the host put elsewhere than its policy wants: told once, when it is seen, and again when it was gone between.

use std::collections::BTreeSet;

use memory::ram::Ram;
use memory::size::ByteSize;

use crate::sampler::Sample;

/// A backend with pages where they should not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misplaced {
    /// The backend.
    pub backend: String,
    /// Its policy, with its nodes.
    pub policy: String,
    /// Whether the guest would not have started so (`strict=on`).
    pub strict: bool,
    /// How much lies where the policy does not want it.
    pub misplaced: ByteSize,
    /// What lies on each host node.
    pub nodes: Vec<(u32, ByteSize)>,
}

/// For people.
impl std::fmt::Display for Misplaced {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Misplaced { backend, policy, .. } = self;
        let nodes: Vec<_> = (self.nodes.iter())
            .map(|(node, size)| format!("{size} on node {node}"))
            .collect();
        write!(
            f,
            "backend '{backend}' has policy {policy}, but {} lie where that does not want them: the host has {}",
            self.misplaced,
            nodes.join(", ")
        )
    }
}

/// Remembers what was told.
#[derive(Debug, Default)]
pub struct MisplacedWatch {
    told: BTreeSet<String>,
}

impl MisplacedWatch {
    /// What `sample` shows of the guest's memory that was not so in the one before.
    pub fn look(&mut self, ram: &Ram, sample: &Sample) -> Vec<Misplaced> {
        let mut news = Vec::new();
        for (backend, now) in ram.backends().iter().zip(&sample.backends) {
            let spec = backend.spec();
            if now.misplaced == ByteSize::ZERO {
                self.told.remove(&spec.id);
            } else if self.told.insert(spec.id.clone()) {
                news.push(Misplaced {
                    backend: spec.id.clone(),
                    policy: spec.policy.to_string(),
                    strict: spec.strict,
                    misplaced: now.misplaced,
                    nodes: now.nodes.iter().map(|node| (node.node, node.bytes)).collect(),
                });
            }
        }
        news
    }
}

#[cfg(test)]
mod tests;
