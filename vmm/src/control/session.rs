//! The QMP side of one connection: negotiation first, then commands, one after the other.

use serde_json::{Value, json};

use super::command;
use super::put_off::{PutOff, Wait};
use super::qmp::{self, Class, Failure, Incoming, Parser, Request};
use super::target::Target;

#[derive(Debug, Default)]
pub(super) struct Session {
    parser: Parser,
    negotiated: bool,
    over: bool,
    /// A request that is better answered a little later. Those behind it wait.
    put_off: Option<PutOff<Request>>,
}

impl Session {
    /// Does the next request in `input`; its answer as bytes. None when no request is complete, or the one before is
    /// not answered yet.
    pub(super) fn next_answer(&mut self, input: &mut &[u8], target: &mut dyn Target) -> Option<Vec<u8>> {
        if self.put_off.is_some() {
            return None;
        }
        match self.parser.next(input)? {
            Incoming::Request(request) => {
                if self.negotiated
                    && let Some(awaited) = command::awaits(target, &request.command, &request.arguments)
                {
                    self.put_off = Some(PutOff::new(request, awaited));
                    return None;
                }
                Some(self.answer(request, target))
            }
            Incoming::Malformed { failure, id } => Some(encode(Err(failure), id)),
            Incoming::Fatal(failure) => {
                self.over = true;
                Some(encode(Err(failure), None))
            }
        }
    }

    /// What a request that was put off waits for.
    pub(super) fn wait(&self) -> Option<Wait> {
        self.put_off.as_ref().map(|put_off| put_off.wait)
    }

    /// Does the request that was put off.
    pub(super) fn late_answer(&mut self, target: &mut dyn Target) -> Option<Vec<u8>> {
        let put_off = self.put_off.take()?;
        Some(self.answer(put_off.request, target))
    }

    fn answer(&mut self, request: Request, target: &mut dyn Target) -> Vec<u8> {
        let id = request.id.clone();
        encode(self.execute(request, target), id)
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

fn encode(result: Result<Value, Failure>, id: Option<Value>) -> Vec<u8> {
    qmp::encode(&qmp::reply(result, id))
}
