//! `object-add` and `object-del`: memory backends that come and go while the machine runs.

use serde_json::Value;

use super::command::failed;
use super::inventory::Place;
use super::qmp::{Arguments, Failure};
use super::target::Target;
use crate::cli::keyval::Pair;
use crate::cli::object::{self, Object};
use crate::cli::value::ValueError;
use crate::objects;

/// `object-add`: the properties are those of `-object`.
pub(super) fn add(target: &mut dyn Target, mut arguments: Arguments) -> Result<(), Failure> {
    // QEMU names these two first.
    let mut pairs: Vec<Pair> = Vec::new();
    for name in ["qom-type", "id"] {
        pairs.push((name.to_owned(), arguments.string(name)?));
    }
    for (name, value) in arguments.rest() {
        pairs.extend(texts(&name, value)?.into_iter().map(|text| (name.clone(), text)));
    }
    add_parsed(target, object::object_of(pairs))
}

/// The monitor's `object_add`, with the words of `-object`.
pub(super) fn add_text(target: &mut dyn Target, text: &str) -> Result<(), Failure> {
    add_parsed(target, object::object(text))
}

fn add_parsed(target: &mut dyn Target, parsed: Result<Object, ValueError>) -> Result<(), Failure> {
    let object = parsed.map_err(|error| failed(&error))?;
    if is_fixed(target, object.id()) {
        return Err(failed(&objects::Error::Duplicate(object.id().to_owned())));
    }
    match object {
        Object::Memory(backend) => target.add_object(backend).map_err(|error| failed(&error)),
        Object::Rng(_) => Err(Failure::generic(
            "sources of random bytes come with -object: no device can be added to a machine that runs",
        )),
    }
}

/// `object-del`.
pub(super) fn remove(target: &mut dyn Target, id: &str) -> Result<(), Failure> {
    if is_fixed(target, id) {
        return Err(failed(&objects::Error::InUse(id.to_owned())));
    }
    target.remove_object(id).map_err(|error| failed(&error))
}

/// Whether a device has the object.
fn is_fixed(target: &dyn Target, id: &str) -> bool {
    let mut items = target.items().iter();
    items.any(|item| item.place == Place::Objects && item.id == id)
}

/// A value as the command line has it; the elements of a list one by one.
fn texts(name: &str, value: Value) -> Result<Vec<String>, Failure> {
    if let Value::Array(values) = value {
        return values.into_iter().map(|value| text(name, value)).collect();
    }
    text(name, value).map(|text| vec![text])
}

fn text(name: &str, value: Value) -> Result<String, Failure> {
    match value {
        Value::Bool(on) => Ok(if on { "on" } else { "off" }.to_owned()),
        Value::Number(number) => Ok(number.to_string()),
        Value::String(text) => Ok(text),
        Value::Null | Value::Object(_) | Value::Array(_) => Err(wrong(name)),
    }
}

fn wrong(name: &str) -> Failure {
    Failure::generic(format!(
        "Invalid parameter type for '{name}', expected: boolean, number, string or list of these"
    ))
}

#[cfg(test)]
mod tests;
