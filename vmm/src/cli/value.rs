//! What can be wrong with the value of an option.

use memory::size::SizeError;

use super::near;
use crate::cpu_features::FeatureError;

/// Why the value of an option was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ValueError {
    /// Only certain words are accepted.
    #[error("'{value}' is not accepted here; accepted: {accepted}")]
    NotAccepted {
        /// What was typed.
        value: String,
        /// The words that are.
        accepted: String,
    },
    /// A property that the object does not have.
    #[error("{owner} has no property '{name}'{near}; it has: {accepted}")]
    UnknownProperty {
        /// The object, device or option.
        owner: String,
        /// The property as it was typed.
        name: String,
        /// ", did you mean …" or nothing.
        near: String,
        /// All properties that it has.
        accepted: String,
    },
    /// No such object, device or socket type.
    #[error("unknown {what} '{name}'{near}; known: {accepted}")]
    UnknownType {
        /// What kind of thing.
        what: &'static str,
        /// What was typed.
        name: String,
        /// ", did you mean …" or nothing.
        near: String,
        /// All that are known.
        accepted: String,
    },
    /// A property that must be there is not.
    #[error("{owner} needs '{name}=…'")]
    Missing {
        /// The object, device or option.
        owner: String,
        /// The property.
        name: &'static str,
    },
    /// A key with nothing before its `=`.
    #[error("there is a '=' or ',' without a name before it")]
    EmptyName,
    /// A property has a value that it cannot have.
    #[error("{name}={value}: expected {expected}")]
    Property {
        /// The property.
        name: String,
        /// What was typed.
        value: String,
        /// What would be right.
        expected: String,
    },
    /// A property whose value cannot be read.
    #[error("{name}={value}: {reason}")]
    Invalid {
        /// The property.
        name: &'static str,
        /// What was typed.
        value: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
    /// A size that cannot be read.
    #[error("{name}={value}")]
    Size {
        /// The property.
        name: String,
        /// What was typed.
        value: String,
        /// What is wrong with it.
        source: SizeError,
    },
    /// A set of host nodes that cannot be read.
    #[error("host-nodes={value}: {reason}; expected node numbers such as 0-1 or 0,,2")]
    Nodes {
        /// What was typed.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A policy for no nodes.
    #[error("host-nodes must be set for policy {policy}")]
    NodesMissing {
        /// The policy.
        policy: String,
    },
    /// Not the host's processor.
    #[error(
        "there is no model '{model}', only host: other models make guests fit for hosts of other kinds, but no guest leaves the host \
         that it was started on; host,-FEATURE takes single features away"
    )]
    CpuModel {
        /// What was typed.
        model: String,
    },
    /// A feature of the processor that cannot be asked for.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// Two properties that exclude or need one another.
    #[error("{0}")]
    Conflict(&'static str),
    /// Understood, but refused.
    #[error("{what} is refused: {why}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// Why it is not done.
        why: &'static str,
    },
}

impl ValueError {
    /// There is no `what` of this name, but there are `known`.
    pub(super) fn unknown_type(
        what: &'static str,
        name: String,
        known: impl Iterator<Item = &'static str> + Clone,
    ) -> Self {
        ValueError::UnknownType {
            what,
            near: near::did_you_mean(&name, "", known.clone()),
            name,
            accepted: known.collect::<Vec<_>>().join(", "),
        }
    }
}
