//! `GET /openapi.json`: the API described for programs (OpenAPI 3.1). Owns the document: its bodies come from the types
//! that are written and read, its codes from `record`; a route is added in [`routes`], in one place. Refuses to describe
//! what a client may not rely on.

mod counts;
mod database;
mod gateway;
mod operation;
mod parameters;
mod routes;

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

/// Where bodies' schemas are.
const SCHEMAS: &str = "#/components/schemas/";

/// Makes the schema of a body, or a reference to it.
type Shape = fn(&mut Shapes) -> Value;

/// The schemas that were referred to so far. What is read takes more than what is written.
struct Shapes {
    answers: SchemaGenerator,
    requests: SchemaGenerator,
}

impl Shapes {
    fn new() -> Self {
        let settings = || {
            SchemaSettings::draft2020_12().with(|settings| {
                settings.definitions_path = SCHEMAS.trim_start_matches('#').into();
                settings.meta_schema = None;
            })
        };
        Self {
            answers: settings().for_serialize().into_generator(),
            requests: settings().for_deserialize().into_generator(),
        }
    }

    /// What the server writes.
    fn answer<T: JsonSchema>(&mut self) -> Value {
        Schema::to_value(self.answers.subschema_for::<T>())
    }

    /// What a client sends.
    fn request<T: JsonSchema>(&mut self) -> Value {
        Schema::to_value(self.requests.subschema_for::<T>())
    }

    fn definitions(mut self) -> Map<String, Value> {
        let mut all = self.requests.take_definitions(true);
        all.extend(self.answers.take_definitions(true));
        all.sort_keys();
        all
    }
}

const ABOUT: &str = "The log of record for data pipelines: records of runs, stored durably, read by filters and by SQL. \
     Every GET takes HEAD too; another method is `method_not_allowed`. A parameter stands at most once, and an empty one counts as not given; one that is not \
     listed is refused. Fields, parameters, codes and media types may be added within v1: pass over what you do not know.";

/// The document.
pub(super) fn document() -> Value {
    let mut shapes = Shapes::new();
    let mut paths: Map<String, Value> = Map::new();
    for operation in routes::all() {
        let (path, method) = (operation.path, operation.method);
        paths.entry(path).or_insert_with(|| json!({}))[method] = operation.describe(&mut shapes);
    }
    json!({
        "openapi": "3.1.1",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Runstone",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "The log of record for data pipelines",
            "description": ABOUT,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": "records", "description": "What happened, record by record."},
            {"name": "runs", "description": "What the records of a run add up to."},
            {"name": "sql", "description": "Any other question."},
            {"name": "gateway", "description": "For callers of the Logger and of the Orchestrator: bodies and failures of their shape."},
            {"name": "server", "description": "For whoever watches the server."},
            {"name": "about", "description": "This API described."},
        ],
        "paths": paths,
        "components": {
            "schemas": shapes.definitions(),
            "headers": operation::headers(),
            "parameters": parameters::headers(),
        },
    })
}
