//! QMP as bytes: requests out of a stream, replies into one. Pure: no socket, no machine.
//!
//! The dialect is QEMU's (docs/interop/qmp-spec.txt there), whose wording of errors clients are used to.
//!
//! ```
//! use vmm::control::qmp::{Incoming, Parser};
//!
//! let mut parser = Parser::default();
//! let mut input = &br#"{"execute": "stop", "id": 7}"#[..];
//! let Some(Incoming::Request(request)) = parser.next(&mut input) else { panic!() };
//! assert_eq!((request.command.as_str(), request.id), ("stop", Some(7.into())));
//! ```

use std::borrow::Cow;

use serde_json::{Map, Value, json};

pub use self::arguments::Arguments;
use self::framer::{FrameError, Framer};

mod arguments;
mod encode;
pub mod framer;

pub use self::encode::encode;

/// The error classes of QMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Everything without a class of its own.
    GenericError,
    /// No such command, or not now.
    CommandNotFound,
    /// The device that the command is about is not there.
    DeviceNotActive,
    /// No such device.
    DeviceNotFound,
}

impl Class {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Class::GenericError => "GenericError",
            Class::CommandNotFound => "CommandNotFound",
            Class::DeviceNotActive => "DeviceNotActive",
            Class::DeviceNotFound => "DeviceNotFound",
        }
    }
}

/// What a client is told when its request was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub class: Class,
    /// For people.
    pub desc: Cow<'static, str>,
}

impl Failure {
    /// A failure without a class of its own.
    pub fn generic(desc: impl Into<Cow<'static, str>>) -> Failure {
        Failure {
            class: Class::GenericError,
            desc: desc.into(),
        }
    }
}

/// A request whose form is right.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Name of the command.
    pub command: String,
    /// Its arguments, not yet checked.
    pub arguments: Arguments,
    /// To be sent back with the reply.
    pub id: Option<Value>,
}

/// What a client sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Incoming {
    /// A request.
    Request(Request),
    /// Something else; the stream goes on.
    Malformed {
        /// What is wrong.
        failure: Failure,
        /// The id, where it could be read.
        id: Option<Value>,
    },
    /// Something that is too large to go on: tell the client and close.
    Fatal(Failure),
}

/// Finds requests in a stream of bytes, however the stream was cut.
#[derive(Debug, Default)]
pub struct Parser {
    framer: Framer,
}

impl Parser {
    /// The next request in `input`, from which it takes the bytes that it used. None when `input` is used up; its
    /// incomplete rest is kept for the next call.
    pub fn next(&mut self, input: &mut &[u8]) -> Option<Incoming> {
        Some(match self.framer.next(input)? {
            Ok(frame) => match value(&frame) {
                Ok(value) => request(value),
                Err(failure) => Incoming::Malformed { failure, id: None },
            },
            Err(error @ (FrameError::TooLong | FrameError::TooDeep)) => Incoming::Fatal(parse_error(&error)),
            Err(error) => Incoming::Malformed {
                failure: parse_error(&error),
                id: None,
            },
        })
    }
}

fn parse_error(error: &dyn std::fmt::Display) -> Failure {
    Failure::generic(format!("JSON parse error, {error}"))
}

fn value(frame: &[u8]) -> Result<Value, Failure> {
    let is_word = frame.first().is_some_and(|first| !b"{[\"".contains(first));
    serde_json::from_slice(frame).map_err(|error| {
        if is_word {
            parse_error(&format_args!(
                "invalid keyword '{}'",
                String::from_utf8_lossy(frame)
            ))
        } else {
            parse_error(&error)
        }
    })
}

/// Checks the form of a request, in QEMU's words.
fn request(value: Value) -> Incoming {
    let Value::Object(mut members) = value else {
        return Incoming::Malformed {
            failure: Failure::generic("QMP input must be a JSON object"),
            id: None,
        };
    };
    let id = members.remove("id");
    match command_and_arguments(members) {
        Ok((command, arguments)) => Incoming::Request(Request {
            command,
            arguments,
            id,
        }),
        Err(failure) => Incoming::Malformed { failure, id },
    }
}

fn command_and_arguments(mut members: Map<String, Value>) -> Result<(String, Arguments), Failure> {
    let command = match members.remove("execute") {
        None => None,
        Some(Value::String(command)) => Some(command),
        Some(_) => return Err(Failure::generic("QMP input member 'execute' must be a string")),
    };
    let arguments = match members.remove("arguments") {
        None => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err(Failure::generic("QMP input member 'arguments' must be an object")),
    };
    if let Some((name, _)) = members.into_iter().next() {
        return Err(Failure::generic(format!(
            "QMP input member '{name}' is unexpected"
        )));
    }
    let command = command.ok_or_else(|| Failure::generic("QMP input lacks member 'execute'"))?;
    Ok((command, Arguments::new(arguments)))
}

/// The reply to a request, with its `id` if it had one.
pub fn reply(result: Result<Value, Failure>, id: Option<Value>) -> Value {
    let mut reply = Map::new();
    match result {
        Ok(value) => reply.insert("return".to_owned(), value),
        Err(failure) => {
            let error = json!({ "class": failure.class.name(), "desc": failure.desc });
            reply.insert("error".to_owned(), error)
        }
    };
    if let Some(id) = id {
        reply.insert("id".to_owned(), id);
    }
    Value::Object(reply)
}

/// What `query-version` returns and the greeting contains: the dialect spoken, and who we are.
pub fn version() -> Value {
    json!({
        "qemu": { "major": 7, "minor": 2, "micro": 0 },
        "package": concat!("ballast-", env!("CARGO_PKG_VERSION")),
    })
}

/// The first thing that a client hears.
pub fn greeting() -> Value {
    json!({ "QMP": { "version": version(), "capabilities": [] } })
}

#[cfg(test)]
mod tests;
