//! The arguments of a command: taken one by one, then nothing may be left.

use serde_json::{Map, Value};

use super::Failure;

/// Arguments not yet taken.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments(Map<String, Value>);

impl Arguments {
    /// The members of a request's `arguments`.
    pub fn new(members: Map<String, Value>) -> Arguments {
        Arguments(members)
    }

    /// Looks at an argument and leaves it there.
    pub fn peek(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// Takes a value of any type.
    pub fn any(&mut self, name: &str) -> Result<Value, Failure> {
        self.0.remove(name).ok_or_else(|| missing(name))
    }

    /// Takes an integer of 64 bits.
    pub fn integer(&mut self, name: &str) -> Result<i64, Failure> {
        let value = self.any(name)?;
        value.as_i64().ok_or_else(|| wrong_type(name, "integer"))
    }

    /// Takes an integer that may be absent.
    pub fn optional_integer(&mut self, name: &str) -> Result<Option<i64>, Failure> {
        if self.0.contains_key(name) {
            self.integer(name).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Takes a boolean that may be absent.
    pub fn optional_bool(&mut self, name: &str) -> Result<Option<bool>, Failure> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(_) => Err(wrong_type(name, "boolean")),
        }
    }

    /// Takes a string.
    pub fn string(&mut self, name: &str) -> Result<String, Failure> {
        let value = self.any(name)?;
        text(value).ok_or_else(|| wrong_type(name, "string"))
    }

    /// Takes a string that may be absent.
    pub fn optional_string(&mut self, name: &str) -> Result<Option<String>, Failure> {
        if self.0.contains_key(name) {
            self.string(name).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Takes a list of strings that may be absent.
    pub fn optional_strings(&mut self, name: &str) -> Result<Vec<String>, Failure> {
        let list = match self.0.remove(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(wrong_type(name, "array")),
        };
        list.into_iter()
            .map(|value| text(value).ok_or_else(|| wrong_type(name, "string")))
            .collect()
    }

    /// Takes a list of integers from 0 to 2^32 - 1.
    pub fn list(&mut self, name: &str) -> Result<Vec<u32>, Failure> {
        let Value::Array(list) = self.any(name)? else {
            return Err(wrong_type(name, "array"));
        };
        let number = |value: Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        list.into_iter()
            .map(|value| number(value).ok_or_else(|| wrong_type(name, "uint32")))
            .collect()
    }

    /// Takes such a list that may be absent.
    pub fn optional_list(&mut self, name: &str) -> Result<Option<Vec<u32>>, Failure> {
        let there = self.0.contains_key(name);
        there.then(|| self.list(name)).transpose()
    }

    /// All that is left, for who knows what it may be.
    pub fn rest(self) -> impl Iterator<Item = (String, Value)> {
        self.0.into_iter()
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), Failure> {
        match self.0.into_iter().next() {
            Some((name, _)) => Err(Failure::generic(format!("Parameter '{name}' is unexpected"))),
            None => Ok(()),
        }
    }
}

fn text(value: Value) -> Option<String> {
    if let Value::String(text) = value {
        Some(text)
    } else {
        None
    }
}

fn missing(name: &str) -> Failure {
    Failure::generic(format!("Parameter '{name}' is missing"))
}

fn wrong_type(name: &str, expected: &str) -> Failure {
    Failure::generic(format!(
        "Invalid parameter type for '{name}', expected: {expected}"
    ))
}
