//! One operation of a path, put together. Owns what all of them have: the name of the exchange, the one shape of a failure,
//! and what a client has already.

use std::collections::BTreeMap;

use runstone_record::ErrorCode;
use runstone_record::wire::ErrorBody;
use serde_json::{Map, Value, json};

use super::{Shape, Shapes};
use crate::api::errors;

/// What any request may meet.
const ALWAYS: [ErrorCode; 5] = [
    ErrorCode::InvalidRequest,
    // Large answers are held for whoever reads them: see [`crate::http::answers`].
    ErrorCode::Overloaded,
    ErrorCode::HeadersTooLarge,
    ErrorCode::Internal,
    ErrorCode::Unavailable,
];

/// A body in one media type.
pub(super) struct Content {
    media: &'static str,
    shape: Shape,
    examples: Vec<(&'static str, Value)>,
}

impl Content {
    pub(super) fn json(shape: Shape, example: Value) -> Content {
        Content { media: "application/json", shape, examples: vec![("example", example)] }
    }

    /// Text of which nothing more is said.
    pub(super) fn text(media: &'static str, example: &str) -> Content {
        Content {
            media,
            shape: |_| json!({"type": "string", "pattern": "[^ \\t\\r\\n]"}),
            examples: vec![("example", example.into())],
        }
    }

    /// A streamed answer, which may have nothing in it.
    pub(super) fn stream(media: &'static str, example: &str) -> Content {
        Content { media, shape: |_| json!({"type": "string"}), examples: vec![("example", example.into())] }
    }

    pub(super) fn example(mut self, name: &'static str, value: Value) -> Content {
        self.examples.push((name, value));
        self
    }

    fn describe(self, shapes: &mut Shapes) -> (String, Value) {
        let examples: Map<String, Value> =
            self.examples.into_iter().map(|(name, value)| (name.to_owned(), json!({"value": value}))).collect();
        (self.media.to_owned(), json!({"schema": (self.shape)(shapes), "examples": examples}))
    }
}

struct Answer {
    says: &'static str,
    content: Vec<Content>,
    headers: &'static [&'static str],
}

/// One method of one path.
pub(super) struct Operation {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    id: &'static str,
    tag: &'static str,
    summary: &'static str,
    says: &'static str,
    parameters: Vec<Value>,
    body: Option<(&'static str, Vec<Content>)>,
    answers: BTreeMap<u16, Answer>,
    errors: Vec<ErrorCode>,
    failure: Shape,
    in_one_shape: bool,
}

impl Operation {
    fn new(method: &'static str, path: &'static str, id: &'static str, tag: &'static str) -> Operation {
        Operation {
            method,
            path,
            id,
            tag,
            summary: "",
            says: "",
            parameters: vec![json!({"$ref": "#/components/parameters/X-Request-Id"})],
            body: None,
            answers: BTreeMap::new(),
            errors: ALWAYS.to_vec(),
            failure: Shapes::answer::<ErrorBody>,
            in_one_shape: true,
        }
    }

    pub(super) fn get(path: &'static str, id: &'static str, tag: &'static str) -> Operation {
        Operation::new("get", path, id, tag)
    }

    pub(super) fn post(path: &'static str, id: &'static str, tag: &'static str) -> Operation {
        Operation::new("post", path, id, tag)
    }

    /// What it does: a line, and more.
    pub(super) fn says(mut self, summary: &'static str, more: &'static str) -> Operation {
        (self.summary, self.says) = (summary, more);
        self
    }

    pub(super) fn takes(mut self, parameters: Vec<Value>) -> Operation {
        self.parameters.extend(parameters);
        self.fails(&[ErrorCode::InvalidParameter])
    }

    pub(super) fn body(mut self, says: &'static str, content: Vec<Content>) -> Operation {
        self.body = Some((says, content));
        self.fails(&[
            ErrorCode::EmptyBody,
            ErrorCode::InvalidJson,
            ErrorCode::InvalidEncoding,
            ErrorCode::RequestTimeout,
            ErrorCode::BodyTooLarge,
            ErrorCode::UnsupportedMediaType,
            ErrorCode::UnsupportedEncoding,
        ])
    }

    pub(super) fn answers(self, status: u16, says: &'static str, content: Vec<Content>) -> Operation {
        self.answers_with(status, says, content, &[])
    }

    pub(super) fn answers_with(
        mut self,
        status: u16,
        says: &'static str,
        content: Vec<Content>,
        headers: &'static [&'static str],
    ) -> Operation {
        self.answers.insert(status, Answer { says, content, headers });
        self
    }

    /// A whole answer that a client may keep: see [`crate::http::etag`].
    pub(super) fn kept(mut self, says: &'static str, content: Vec<Content>) -> Operation {
        self.parameters.push(json!({"$ref": "#/components/parameters/If-None-Match"}));
        self.answers_with(200, says, content, &["ETag", "Cache-Control"]).answers_with(
            304,
            "The client has this answer already.",
            Vec::new(),
            &["ETag", "Cache-Control"],
        )
    }

    /// Its failures have another body than those of the other routes.
    pub(super) fn fails_as(mut self, body: Shape) -> Operation {
        (self.failure, self.in_one_shape) = (body, false);
        self
    }

    pub(super) fn fails(mut self, codes: &[ErrorCode]) -> Operation {
        let new: Vec<ErrorCode> = codes.iter().copied().filter(|code| !self.errors.contains(code)).collect();
        self.errors.extend(new);
        self
    }

    /// The operation object.
    pub(super) fn describe(self, shapes: &mut Shapes) -> Value {
        let mut responses: BTreeMap<u16, Value> = BTreeMap::new();
        for (status, answer) in self.answers {
            let content: Map<String, Value> = answer.content.into_iter().map(|one| one.describe(shapes)).collect();
            let mut response = json!({"description": answer.says, "headers": refer(answer.headers)});
            if !content.is_empty() {
                response["content"] = content.into();
            }
            responses.insert(status, response);
        }
        for code in ErrorCode::ALL.iter().filter(|code| self.errors.contains(code)) {
            let response = responses.entry(code.status()).or_insert_with(|| failure(code.status()));
            add_failure(response, *code, (self.failure)(shapes), self.in_one_shape);
        }
        let responses: Map<String, Value> =
            responses.into_iter().map(|(status, response)| (status.to_string(), response)).collect();
        let mut operation = json!({
            "operationId": self.id,
            "tags": [self.tag],
            "summary": self.summary,
            "description": self.says,
            "parameters": self.parameters,
        });
        if let Some((says, content)) = self.body {
            let content: Map<String, Value> = content.into_iter().map(|one| one.describe(shapes)).collect();
            operation["requestBody"] = json!({"description": says, "required": true, "content": content});
        }
        operation["responses"] = responses.into();
        operation
    }
}

fn refer(headers: &[&str]) -> Map<String, Value> {
    let all = ["X-Request-Id"].iter().chain(headers);
    all.map(|name| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")}))).collect()
}

fn failure(status: u16) -> Value {
    let headers: &[&str] = if matches!(status, 429 | 503) { &["Retry-After"] } else { &[] };
    json!({"description": "Failed as a whole:", "headers": refer(headers)})
}

fn add_failure(response: &mut Value, code: ErrorCode, schema: Value, in_one_shape: bool) {
    let says = response["description"].as_str().unwrap_or_default();
    let before = if says.contains('`') { "," } else { "" };
    response["description"] = format!("{says}{before} `{code}`").into();
    let content = &mut response["content"]["application/json"];
    match content.get("schema") {
        // The status has another meaning too, in a body of another shape.
        Some(other) if other.get("anyOf").is_none() && *other != schema => {
            content["schema"] = json!({"anyOf": [other, schema]});
        }
        Some(_) => {}
        None => content["schema"] = schema,
    }
    if let Some(example) = errors::example(code) {
        let example = if in_one_shape { example } else { json!({"error": true, "message": example["message"]}) };
        content["examples"][code.as_str()] = json!({"value": example});
    }
}

/// The headers of answers.
pub(super) fn headers() -> Value {
    let header =
        |says: &str, schema: Value, example: &str| json!({"description": says, "schema": schema, "example": example});
    let text = || json!({"type": "string"});
    json!({
        "X-Request-Id": header(
            "The exchange's name, in the server's log too: the request's own, or a new one.",
            text(),
            "019aca5c-2f3a-7cc1-a06e-4f1d0b3c9e58",
        ),
        "ETag": header("A strong tag of the answer, for If-None-Match.", text(), "\"c67f7d1edae0c9b6882543c6e3b931a5\""),
        "Cache-Control": header("To be asked for each time, by its tag.", json!({"const": "no-cache"}), "no-cache"),
        "Retry-After": header("Seconds after which to try again.", json!({"type": "integer", "minimum": 0}), "1"),
        "Idempotency-Replayed": header("This is the answer to an earlier request of this key.", json!({"const": "true"}), "true"),
    })
}
