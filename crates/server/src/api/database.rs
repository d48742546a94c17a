//! The gateway's routes about a database: `POST /get/schemas`, `/get/data` and `/execute/query`. Owns their bodies; what is asked
//! and allowed there stands in `database`.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::header::{HeaderMap, HeaderName};
use http::{Extensions, StatusCode};
use runstone_record::ErrorCode;
use runstone_record::limits::{GATEWAY_NAME_CHARS_MAX, GATEWAY_SAMPLE_ROWS, GATEWAY_TABLES_MAX};
use serde::Deserialize;
use serde_json::error::Category;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::params::NoParams;
use super::{App, json, json_bytes};
use crate::database::{AuditError, DatabaseError, Executed, Rows, Who};
use crate::http::{ApiError, MediaType, Peer, RequestId, body};
use crate::lake::chain;

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Seconds after which a database that was away may be back.
const AWAY_RETRY_AFTER_SECONDS: u32 = 5;

impl From<DatabaseError> for ApiError {
    fn from(error: DatabaseError) -> Self {
        let told = ApiError::new(error.code(), chain(&error));
        if matches!(error, DatabaseError::Away(_)) { told.retry_after(AWAY_RETRY_AFTER_SECONDS) } else { told }
    }
}

impl From<AuditError> for ApiError {
    fn from(error: AuditError) -> Self {
        let code = match &error {
            AuditError::Intake(error) => error.code(),
            AuditError::Unfit(_) => ErrorCode::Internal,
        };
        ApiError::new(code, chain(&error))
    }
}

/// The members that these routes know. Others are passed over, as those of an event are.
#[derive(Default, Deserialize)]
struct Members {
    table_names: Option<Value>,
    limit: Option<Value>,
    query: Option<Value>,
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn missing(field: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidParameter, format!("Missing required field: {field}"))
}

fn invalid(what: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::InvalidParameter, format!("Invalid field: {what}"))
}

/// Reads the body: an object. Serde would take an array too.
async fn members(app: &App, headers: &HeaderMap, body: Body) -> Result<Members, ApiError> {
    if MediaType::of(headers)? != MediaType::Json {
        return Err(ApiError::new(ErrorCode::UnsupportedMediaType, "send the request as application/json"));
    }
    let payload = body::read(headers, body, &app.body_limits, &app.admission).await?;
    let read = match payload.bytes.trim_ascii_start().first() {
        Some(b'{') => serde_json::from_slice(&payload.bytes),
        _ => serde_json::from_slice::<serde::de::IgnoredAny>(&payload.bytes)
            .and_then(|_| Err(serde::de::Error::custom("must be an object"))),
    };
    read.map_err(|error: serde_json::Error| match error.classify() {
        Category::Data => ApiError::new(ErrorCode::InvalidParameter, format!("Invalid request: {error}")),
        Category::Io | Category::Syntax | Category::Eof => {
            ApiError::new(ErrorCode::InvalidJson, format!("Invalid request: not JSON: {error}"))
        }
    })
}

impl Members {
    fn table_names(&mut self) -> Result<Vec<String>, ApiError> {
        let names = match self.table_names.take().ok_or_else(|| missing("table_names"))? {
            Value::Array(names) => names,
            other => return Err(invalid(format!("table_names must be an array of strings, got {}", kind(&other)))),
        };
        if names.len() > GATEWAY_TABLES_MAX {
            return Err(invalid(format!(
                "table_names must have at most {GATEWAY_TABLES_MAX} names, got {}",
                names.len()
            )));
        }
        names.into_iter().map(table_name).collect()
    }

    fn limit(&self) -> Result<u64, ApiError> {
        let (default, most) = GATEWAY_SAMPLE_ROWS;
        let Some(limit) = &self.limit else { return Ok(default) };
        // An integer is one to JSON with a fraction of zero, too.
        let rows = (1..=most).find(|rows| limit.as_f64() == u32::try_from(*rows).ok().map(f64::from));
        rows.ok_or_else(|| match limit {
            Value::Number(number) => invalid(format!("limit must be an integer from 1 to {most}, got {number}")),
            other => invalid(format!("limit must be an integer from 1 to {most}, got {}", kind(other))),
        })
    }

    fn query(&mut self) -> Result<String, ApiError> {
        match self.query.take().ok_or_else(|| missing("query"))? {
            Value::String(query) if query.trim().is_empty() => Err(invalid("query must not be empty")),
            Value::String(query) => Ok(query),
            other => Err(invalid(format!("query must be a string, got {}", kind(&other)))),
        }
    }
}

fn table_name(name: Value) -> Result<String, ApiError> {
    match name {
        Value::String(name) if name.chars().count() > GATEWAY_NAME_CHARS_MAX => {
            Err(invalid(format!("table_names must have names of at most {GATEWAY_NAME_CHARS_MAX} characters")))
        }
        Value::String(name) => Ok(name),
        other => Err(invalid(format!("table_names must be an array of strings, got {} in it", kind(&other)))),
    }
}

/// `POST /get/schemas`: what tables are like.
pub(super) async fn schemas(
    State(app): State<App>,
    _: NoParams,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let names = members(&app, &headers, body).await?.table_names()?;
    let schemas = app.gateway.database()?.schemas(names).await?;
    json(StatusCode::OK, &json!({"schemas": schemas}))
}

/// `POST /get/data`: some rows of tables.
pub(super) async fn data(
    State(app): State<App>,
    _: NoParams,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let mut members = members(&app, &headers, body).await?;
    let (names, limit) = (members.table_names()?, members.limit()?);
    let samples = app.gateway.database()?.samples(names, limit).await?;
    let mut answer = b"{\"data\":{".to_vec();
    for (place, (name, rows)) in samples.iter().enumerate() {
        if place > 0 {
            answer.push(b',');
        }
        answer.extend_from_slice(Value::from(name.as_str()).to_string().as_bytes());
        answer.extend_from_slice(b":[");
        answer.extend_from_slice(&rows.objects);
        answer.push(b']');
    }
    let truncated = samples.iter().any(|(_, rows)| rows.truncated);
    answer.extend_from_slice(format!("}},\"truncated\":{truncated}}}").as_bytes());
    Ok(json_bytes(StatusCode::OK, answer))
}

/// `POST /execute/query`: one statement, written down before and after.
pub(super) async fn execute(
    State(app): State<App>,
    _: NoParams,
    extensions: Extensions,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let query = members(&app, &headers, body).await?.query()?;
    let (database, access) = (app.gateway.database()?.clone(), app.gateway.access()?);
    let call = app.gateway.audit.begin(who(&extensions, &headers), &query, access).await?;
    // It is written down what came of it, whether or not the caller stays.
    let left = CancellationToken::new();
    let stays = left.clone().drop_guard();
    let work = tokio::spawn(async move {
        let outcome = tokio::select! {
            outcome = database.execute(&query, access) => outcome,
            () = left.cancelled() => Err(DatabaseError::Left),
        };
        call.end(&outcome).await;
        outcome
    });
    let outcome = work.await;
    drop(stays);
    let ended = |error: tokio::task::JoinError| match error.is_panic() {
        true => ApiError::new(ErrorCode::Internal, "the server failed; its log says more"),
        false => ApiError::new(ErrorCode::Unavailable, "the server is stopping"),
    };
    let Executed { rows, row_count } = outcome.map_err(ended)??;
    Ok(json_bytes(StatusCode::OK, answer(&rows, row_count)?))
}

fn answer(rows: &Rows, row_count: u64) -> Result<Vec<u8>, ApiError> {
    let columns = serde_json::to_string(&rows.columns);
    let columns = columns.map_err(|error| ApiError::new(ErrorCode::Internal, error.to_string()))?;
    let mut answer = format!("{{\"columns\":{columns},\"rows\":[").into_bytes();
    answer.extend_from_slice(&rows.objects);
    answer.extend_from_slice(format!("],\"row_count\":{row_count},\"truncated\":{}}}", rows.truncated).as_bytes());
    Ok(answer)
}

fn who(extensions: &Extensions, headers: &HeaderMap) -> Who {
    let forwarded = headers.get(&FORWARDED_FOR).and_then(|value| value.to_str().ok());
    Who {
        remote: extensions.get::<Peer>().map(|Peer(address)| *address),
        forwarded_for: forwarded.map(str::to_owned),
        request_id: extensions.get::<RequestId>().map(|id| id.as_str().to_owned()).unwrap_or_default(),
    }
}
