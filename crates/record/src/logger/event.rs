//! The event around an entry: a direct invocation, or what API Gateway and function URLs make of an HTTP request. Owns
//! telling them apart and finding the body; refuses to look into an entry.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiter::{Jiter, JiterError, Peek};

use super::Refusal;
use crate::parse::kind_of;

/// How an event came, and so in which form it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// As it is: the answer's body is an object.
    Direct,
    /// As an HTTP request in an event of API Gateway (1.0 or 2.0) or of a function URL: the answer's body is JSON text.
    Gateway,
}

/// A member of an object: its name, its kind and its text.
#[derive(Debug, Clone)]
pub(super) struct Member<'e> {
    pub(super) name: String,
    pub(super) peek: Peek,
    pub(super) json: &'e [u8],
}

impl Member<'_> {
    /// What it says, if it is a string.
    pub(super) fn text(&self) -> Result<String, JiterError> {
        Jiter::new(self.json).next_str().map(str::to_owned)
    }

    pub(super) fn kind(&self) -> &'static str {
        kind_of(self.peek)
    }
}

/// The members of the object that is all of a text; what it is instead, if it is JSON and no object.
pub(super) fn members(json: &[u8]) -> Result<Result<Vec<Member<'_>>, &'static str>, String> {
    let mut jiter = Jiter::new(json);
    let found = members_of(&mut jiter);
    found.map_err(|error| format!("{} at {}", error.error_type, jiter.error_position(error.index)))
}

fn members_of<'e>(jiter: &mut Jiter<'e>) -> Result<Result<Vec<Member<'e>>, &'static str>, JiterError> {
    let peek = jiter.peek()?;
    if peek != Peek::Object {
        jiter.known_skip(peek)?;
        jiter.finish()?;
        return Ok(Err(kind_of(peek)));
    }
    let mut members = Vec::new();
    let mut next = jiter.known_object()?.map(str::to_owned);
    while let Some(name) = next {
        let peek = jiter.peek()?;
        let start = jiter.current_index();
        jiter.known_skip(peek)?;
        members.push(Member { name, peek, json: jiter.slice_to_current(start) });
        next = jiter.next_key()?.map(str::to_owned);
    }
    jiter.finish()?;
    Ok(Ok(members))
}

/// The member of a name that is not null: null means absent.
pub(super) fn member<'m, 'e>(members: &'m [Member<'e>], name: &str) -> Option<&'m Member<'e>> {
    members.iter().find(|member| member.name == name && member.peek != Peek::Null)
}

/// The Logger's own event, wherever it stands in what came.
pub(super) fn find(event: &[u8]) -> (Shape, Result<Cow<'_, [u8]>, Refusal>) {
    let Some(members) = parse(event).ok().filter(|members| is_gateway(members)) else {
        // Whoever reads it next says what is wrong with it.
        return (Shape::Direct, Ok(Cow::Borrowed(event)));
    };
    (Shape::Gateway, body(&members).map(Cow::Owned))
}

/// The members of an event.
pub(super) fn parse(event: &[u8]) -> Result<Vec<Member<'_>>, Refusal> {
    if event.iter().all(u8::is_ascii_whitespace) {
        return Err(Refusal::new("Invalid event: it is empty"));
    }
    if let Err(error) = std::str::from_utf8(event) {
        let offset = error.valid_up_to();
        return Err(Refusal::new(format!("Invalid event: not UTF-8 at byte {offset}")));
    }
    members(event)
        .map_err(|error| Refusal::new(format!("Invalid event: not JSON: {error}")))?
        .map_err(|got| Refusal::new(format!("Invalid event: must be an object, got {got}")))
}

/// A request's context is in every event of a gateway, version 1.0 and 2.0; those that are made by hand to try a function
/// have at least a body.
fn is_gateway(members: &[Member<'_>]) -> bool {
    let has = |name: &str| member(members, name).is_some();
    !has("run_id") && !has("log_entry") && ["requestContext", "httpMethod", "body"].into_iter().any(has)
}

fn body(members: &[Member<'_>]) -> Result<Vec<u8>, Refusal> {
    let Some(body) = member(members, "body") else {
        return Err(Refusal::new("Invalid event: the body is empty"));
    };
    let text = match body.peek {
        Peek::String => {
            body.text().map_err(|error| Refusal::new(format!("Invalid event: body: {}", error.error_type)))?
        }
        _ => return Err(Refusal::new(format!("Invalid event: body must be a string, got {}", body.kind()))),
    };
    match member(members, "isBase64Encoded").map(|member| member.peek) {
        None | Some(Peek::False) => Ok(text.into_bytes()),
        Some(Peek::True) => STANDARD
            .decode(text.as_bytes())
            .map_err(|error| Refusal::new(format!("Invalid event: body is not base64: {error}"))),
        Some(peek) => {
            Err(Refusal::new(format!("Invalid event: isBase64Encoded must be a boolean, got {}", kind_of(peek))))
        }
    }
}
