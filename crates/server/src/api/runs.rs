//! `GET /api/v1/runs` and `/api/v1/runs/{run_id}`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::StatusCode;
use runstone_record::ErrorCode;
use runstone_record::run::RunState;
use runstone_record::time::Moment;
use runstone_record::wire::{RunBody, RunsPage};

use super::params::path_run;
use super::{App, json};
use crate::http::ApiError;
use crate::http::error::echo;
use crate::runs::RunsQuery;

/// What a cursor begins with: its version.
const CURSOR_VERSION: &str = "r1:";

pub(super) async fn page(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let mut params = app.params(query.as_deref())?;
    let wanted = RunsQuery {
        state: params.read("state", "running, succeeded or failed", RunState::from_text)?,
        source_system: params.text("source_system"),
        stage: params.text("stage"),
        since: params.time("since")?.map(Moment::micros),
        until: params.time("until")?.map(Moment::micros),
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
    let run = app.known_run(&path_run(run_id)?).await?;
    json(StatusCode::OK, &run)
}

impl App {
    /// A run, as of what was acknowledged before now.
    pub(super) async fn known_run(&self, run_id: &str) -> Result<RunBody, ApiError> {
        self.fresh(&self.runs_progress).await?;
        let run = self.runs.get(run_id);
        run.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("no run has this id: {}", echo(run_id))))
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
