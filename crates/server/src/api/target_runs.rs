//! `GET /get/runs`: what the logs add up to that a target has, whoever wrote them. Owns the page: a target has no order in which
//! runs could be read, so it goes through its table and ends when it has enough or has looked for long enough.

use std::time::{Duration, Instant};

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use runstone_record::ErrorCode;
use runstone_record::limits::TARGET_RUNS_PAGE_MS;
use runstone_record::wire::{RunBody, RunsPage};
use runstone_sinks::SinkError;
use serde::{Deserialize, Serialize};

use super::params::Params;
use super::run_log::RETRY_AFTER_S;
use super::runs::{hash, of_this_query, print_cursor, read_cursor, read_wanted};
use super::{App, json};
use crate::http::ApiError;
use crate::lake::chain;
use crate::runs::RunsQuery;
use crate::sinks::{Store, TargetRun, TargetRuns, shown};

/// What a cursor begins with: its version. Others have other first bytes.
const CURSOR_VERSION: u8 = 0x51;

/// Where a walk goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    /// Of the parameters: another query's cursor means nothing here.
    query: u64,
    store: Store,
    since: Option<i64>,
    until: Option<i64>,
    /// Behind which item or run of the table.
    after: String,
}

/// What is asked for, of which store, from where on.
#[derive(Debug)]
pub(super) struct Wanted {
    runs: RunsQuery,
    store: Option<Store>,
    after: Option<String>,
}

pub(super) async fn page(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let hash = hash(query.as_deref().unwrap_or_default());
    let Wanted { runs: wanted, store, after } = read_query(app.params(query.as_deref())?, hash)?;
    let store = store.or_else(|| Store::ALL.into_iter().find(|store| app.targets.has(*store)));
    let missing = |store: Option<Store>| {
        let settings = match store {
            Some(Store::Dynamo) => "dynamodb.table",
            Some(Store::Postgres) => "postgres.url",
            None => "dynamodb.table or postgres.url",
        };
        ApiError::new(ErrorCode::NotConfigured, format!("read runs that a target has: set {settings}"))
    };
    let store = store.ok_or_else(|| missing(None))?;
    let walk = app.targets.runs(store, after, &app.sinks).await.map_err(|error| away(&error))?;
    let mut walk = walk.ok_or_else(|| missing(Some(store)))?;
    let runs = take(&app, &mut walk, &wanted).await?;
    let (since, until) = (wanted.filter.since, wanted.filter.until);
    let next =
        walk.place().map(|after| print_cursor(CURSOR_VERSION, &Cursor { query: hash, store, since, until, after }));
    json(StatusCode::OK, &RunsPage { runs, next })
}

/// The runs of the next page.
async fn take(app: &App, walk: &mut TargetRuns, wanted: &RunsQuery) -> Result<Vec<RunBody>, ApiError> {
    let until = Instant::now() + Duration::from_millis(TARGET_RUNS_PAGE_MS);
    let mut runs = Vec::new();
    let keep = |run: &TargetRun| app.runs.elsewhere(&run.run_id, &run.fold, wanted);
    while let Some(more) = walk.next(wanted.limit - runs.len(), until, keep).await.map_err(|error| away(&error))? {
        runs.extend(more);
        if runs.len() == wanted.limit || Instant::now() >= until {
            break;
        }
    }
    Ok(runs)
}

fn away(error: &SinkError) -> ApiError {
    ApiError::new(ErrorCode::Unavailable, shown(chain(error))).retry_after(RETRY_AFTER_S)
}

pub(super) fn read_query(mut params: Params, hash: u64) -> Result<Wanted, ApiError> {
    params.refuse("order", "runs of a target come in the order of its table")?;
    let mut runs = read_wanted(&mut params)?;
    let by_name = |name: &str| Store::ALL.into_iter().find(|store| store.name() == name);
    let store = params.read("store", "dynamodb or postgres", by_name)?;
    let cursor =
        params.read("cursor", "the next of an earlier page", |text| read_cursor::<Cursor>(CURSOR_VERSION, text))?;
    params.finish()?;
    let Some(cursor) = cursor else { return Ok(Wanted { runs, store, after: None }) };
    of_this_query(cursor.query == hash)?;
    (runs.filter.since, runs.filter.until) = (cursor.since, cursor.until);
    Ok(Wanted { runs, store: Some(cursor.store), after: Some(cursor.after) })
}
