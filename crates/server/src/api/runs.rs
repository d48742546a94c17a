//! `GET /api/v1/runs` and `/api/v1/runs/{run_id}`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::StatusCode;
use runstone_record::ErrorCode;
use runstone_record::run::RunState;
use runstone_record::wire::RunsPage;

use super::params::{Params, path_identifier};
use super::{App, json};
use crate::http::ApiError;
use crate::http::error::echo;
use crate::runs::RunsQuery;

/// What a cursor begins with: its version.
const CURSOR_VERSION: &str = "r1:";

pub(super) async fn page(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let mut params = Params::parse(query.as_deref())?;
    let wanted = RunsQuery {
        state: params.read("state", "running, succeeded or failed", RunState::from_text)?,
        source_system: params.text("source_system"),
        stage: params.text("stage"),
        since: params.time("since")?,
        until: params.time("until")?,
        limit: params.limit()?,
        after: params.read("cursor", "the next of an earlier page", read_cursor)?,
    };
    params.finish()?;
    app.fresh(&app.runs_progress).await?;
    let (runs, next) = app.runs.page(&wanted);
    json(StatusCode::OK, &RunsPage { runs, next: next.map(|(at, id)| write_cursor(at, &id)) })
}

pub(super) async fn one(
    State(app): State<App>,
    run_id: Result<Path<String>, PathRejection>,
) -> Result<Response, ApiError> {
    // What is no UTF-8 once its percent signs are read is no identifier either.
    let Path(run_id) = run_id.map_err(|error| ApiError::new(ErrorCode::InvalidParameter, error.body_text()))?;
    path_identifier("run_id", &run_id)?;
    app.fresh(&app.runs_progress).await?;
    match app.runs.get(&run_id) {
        Some(run) => json(StatusCode::OK, &run),
        None => Err(ApiError::new(ErrorCode::NotFound, format!("no run has this id: {}", echo(&run_id)))),
    }
}

fn write_cursor(started_at: i64, run_id: &str) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(format!("{CURSOR_VERSION}{started_at}:{run_id}"))
}

fn read_cursor(text: &str) -> Option<(i64, String)> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    let (started_at, run_id) = std::str::from_utf8(&bytes).ok()?.strip_prefix(CURSOR_VERSION)?.split_once(':')?;
    Some((started_at.parse().ok()?, run_id.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_and_others_are_refused() {
        assert_eq!(read_cursor(&write_cursor(-5, "a:b")), Some((-5, "a:b".to_owned())));
        for bad in ["", "x", "r1:1:a", "cjI6MTph"] {
            assert_eq!(read_cursor(bad), None, "{bad}");
        }
    }
}
