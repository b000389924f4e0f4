//! The QMP side of one connection: negotiation first, then commands.

use serde_json::{Value, json};

use super::command;
use super::qmp::{self, Class, Failure, Incoming, Parser, Request};
use super::target::Target;

#[derive(Debug, Default)]
pub(super) struct Session {
    parser: Parser,
    negotiated: bool,
    over: bool,
}

impl Session {
    /// Does the next request in `input`; its answer as bytes. None when no request is complete.
    pub(super) fn next_answer(&mut self, input: &mut &[u8], target: &mut dyn Target) -> Option<Vec<u8>> {
        let (result, id) = match self.parser.next(input)? {
            Incoming::Request(request) => {
                let id = request.id.clone();
                (self.execute(request, target), id)
            }
            Incoming::Malformed { failure, id } => (Err(failure), id),
            Incoming::Fatal(failure) => {
                self.over = true;
                (Err(failure), None)
            }
        };
        Some(qmp::encode(&qmp::reply(result, id)))
    }

    fn execute(&mut self, request: Request, target: &mut dyn Target) -> Result<Value, Failure> {
        if self.negotiated {
            return command::execute(target, &request.command, request.arguments);
        }
        if request.command != "qmp_capabilities" {
            let desc = "Expecting capabilities negotiation with 'qmp_capabilities'".into();
            return Err(Failure {
                class: Class::CommandNotFound,
                desc,
            });
        }
        let mut arguments = request.arguments;
        let wanted = arguments.optional_strings("enable")?;
        arguments.finish()?;
        if let Some(capability) = wanted.first() {
            return Err(Failure::generic(format!(
                "Capability '{capability}' is not available"
            )));
        }
        self.negotiated = true;
        Ok(json!({}))
    }

    /// Whether the client has negotiated.
    pub(super) fn is_negotiated(&self) -> bool {
        self.negotiated
    }

    /// Whether the stream cannot go on.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }
}
