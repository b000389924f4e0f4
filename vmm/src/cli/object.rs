//! `-object`.

use super::keyval::{self, Pair};
use super::memory_options::{self, ObjectArg};
use super::properties::devices::{RNG_BUILTIN, RNG_RANDOM};
use super::properties::memory::{BACKEND_FILE, BACKEND_MEMFD, BACKEND_RAM};
use super::properties::{Family, Properties};
use super::rng::{self, RngObject};
use super::value::ValueError;

/// One `-object`.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A memory backend.
    Memory(ObjectArg),
    /// A source of random bytes.
    Rng(RngObject),
}

impl Object {
    /// `id=`.
    pub fn id(&self) -> &str {
        match self {
            Object::Memory(backend) => &backend.id,
            Object::Rng(source) => &source.id,
        }
    }
}

type Kind = (
    &'static Family,
    fn(&Family, &Properties) -> Result<Object, ValueError>,
);

const KINDS: &[Kind] = &[
    (&BACKEND_RAM, memory),
    (&BACKEND_MEMFD, memory),
    (&BACKEND_FILE, memory),
    (&RNG_RANDOM, entropy),
    (&RNG_BUILTIN, entropy),
];

fn memory(family: &Family, properties: &Properties) -> Result<Object, ValueError> {
    memory_options::backend(family, properties).map(Object::Memory)
}

fn entropy(family: &Family, properties: &Properties) -> Result<Object, ValueError> {
    rng::object(family.owner, properties).map(Object::Rng)
}

/// `-object TYPE,id=ID,…`.
pub fn object(text: &str) -> Result<Object, ValueError> {
    object_of(keyval::split(text, Some("qom-type"))?)
}

/// The same of its properties, `qom-type` among them.
pub fn object_of(pairs: Vec<Pair>) -> Result<Object, ValueError> {
    let (kind, pairs) = keyval::typed(pairs, "-object", "qom-type")?;
    let found = KINDS.iter().find(|(family, _)| family.owner == kind);
    let (family, read) = found.ok_or_else(|| {
        let names = KINDS.iter().map(|(family, _)| family.owner);
        ValueError::unknown_type("object type", kind, names)
    })?;
    read(family, &family.accept(pairs)?)
}

#[cfg(test)]
mod tests;
