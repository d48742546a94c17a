//! `GET /api/v1/runs` and `/api/v1/runs/{run_id}`.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use http::StatusCode;
use runstone_record::ErrorCode;
use runstone_record::wire::{RunBody, RunsPage};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3Default;

use super::metrics::read_filter;
use super::params::{NoParams, Params, path_run};
use super::{App, json};
use crate::http::ApiError;
use crate::http::error::echo;
use crate::runs::{Contains, RunPlace, RunsOrder, RunsQuery};

/// What a cursor begins with: its version.
const CURSOR_VERSION: u8 = 3;

/// Where a walk goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    /// Of the parameters: another query's cursor means nothing here.
    query: u64,
    /// The times that the first page came to: what is relative to now must not move from page to page.
    since: Option<i64>,
    until: Option<i64>,
    place: RunPlace,
}

pub(super) async fn page(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let hash = hash(query.as_deref().unwrap_or_default());
    let wanted = read_query(app.params(query.as_deref())?, hash)?;
    app.fresh(&app.runs_progress).await?;
    let (since, until) = (wanted.filter.since, wanted.filter.until);
    let runs = app.runs.clone();
    // A text is looked for in every run where it is rare, for longer than the threads that serve connections have.
    let (runs, next) = app.sql.aside(move || runs.page(&wanted)).await?;
    let next = next.map(|place| Cursor { query: hash, since, until, place }.encode());
    json(StatusCode::OK, &RunsPage { runs, next })
}

/// Which runs are asked for, in whatever order.
pub(super) fn read_wanted(params: &mut Params) -> Result<RunsQuery, ApiError> {
    let seconds = "a number of seconds, such as 90 or 0.5";
    Ok(RunsQuery {
        filter: read_filter(params)?,
        contains: params.read("q", "a text that can be looked for", Contains::new)?,
        duration: (params.read("duration_min", seconds, micros)?, params.read("duration_max", seconds, micros)?),
        limit: params.limit()?,
        ..RunsQuery::default()
    })
}

pub(super) fn read_query(mut params: Params, hash: u64) -> Result<RunsQuery, ApiError> {
    let mut wanted = read_wanted(&mut params)?;
    wanted.order = params.read("order", "newest, oldest or longest", order)?.unwrap_or_default();
    let cursor = params.read("cursor", "the next of an earlier page", Cursor::decode)?;
    params.finish()?;
    if let Some(cursor) = cursor {
        of_this_query(cursor.query == hash)?;
        (wanted.filter.since, wanted.filter.until) = (cursor.since, cursor.until);
        wanted.after = Some(cursor.place);
    }
    Ok(wanted)
}

/// Whether a cursor is that of the same query.
pub(super) fn of_this_query(is_same: bool) -> Result<(), ApiError> {
    let message = "parameter cursor: it comes from a page of another query; repeat that query's parameters";
    is_same.then_some(()).ok_or_else(|| ApiError::new(ErrorCode::InvalidParameter, message))
}

pub(super) async fn one(
    State(app): State<App>,
    run_id: Result<Path<String>, PathRejection>,
    _: NoParams,
) -> Result<Response, ApiError> {
    let run = app.known_run(&path_run(run_id)?).await?;
    json(StatusCode::OK, &run)
}

impl App {
    /// A run, as of what was acknowledged before now.
    pub(super) async fn known_run(&self, run_id: &str) -> Result<RunBody, ApiError> {
        self.fresh(&self.runs_progress).await?;
        let (runs, id) = (self.runs.clone(), run_id.to_owned());
        let run = self.sql.aside(move || runs.get(&id)).await?;
        run.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("no run has this id: {}", echo(run_id))))
    }
}

fn order(text: &str) -> Option<RunsOrder> {
    match text {
        "newest" => Some(RunsOrder::Newest),
        "oldest" => Some(RunsOrder::Oldest),
        "longest" => Some(RunsOrder::Longest),
        _ => None,
    }
}

/// Seconds as microseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a cast from a float saturates")]
fn micros(text: &str) -> Option<u64> {
    let seconds: f64 = text.parse().ok()?;
    (seconds.is_finite() && seconds >= 0.0).then(|| (seconds * 1e6).round() as u64)
}

/// A hash of everything that a walk must keep from page to page, as it was given; the limit may change.
pub(super) fn hash(query: &str) -> u64 {
    let given = form_urlencoded::parse(query.as_bytes());
    let mut kept: Vec<_> =
        given.filter(|(name, value)| !matches!(name.as_ref(), "limit" | "cursor") && !value.is_empty()).collect();
    kept.sort_unstable();
    let mut hasher = Xxh3Default::new();
    for text in kept.iter().flat_map(|(name, value)| [name, value]) {
        hasher.update(&(text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.digest()
}

impl Cursor {
    fn encode(&self) -> String {
        print_cursor(CURSOR_VERSION, self)
    }

    fn decode(text: &str) -> Option<Self> {
        read_cursor(CURSOR_VERSION, text)
    }
}

pub(super) fn print_cursor(version: u8, cursor: &impl Serialize) -> String {
    let mut bytes = vec![version];
    // Writing to memory cannot fail.
    bytes.extend(postcard::to_allocvec(cursor).unwrap_or_default());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn read_cursor<C: DeserializeOwned>(version: u8, text: &str) -> Option<C> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
    match postcard::take_from_bytes(bytes.strip_prefix(&[version])?).ok()? {
        (cursor, []) => Some(cursor),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runs::{Last, Stamp};

    fn place(started_at: i64, run_id: &str) -> RunPlace {
        RunPlace { begun: Stamp(7, 1), last: Last::Still { started_at, duration: 3, run_id: run_id.to_owned() } }
    }

    #[test]
    fn a_cursor_comes_back_and_others_are_refused() {
        let (since, until) = (Some(-7), None);
        let cursor = Cursor { query: 9, since, until, place: place(-5, "a:b") };
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor.clone()));
        let longer = BASE64_URL_SAFE_NO_PAD
            .encode([&[CURSOR_VERSION], &*postcard::to_allocvec(&cursor).unwrap(), b"x"].concat());
        for bad in ["", "x", "AA", "r2:1:a", "cjE6MTph", &longer] {
            assert_eq!(Cursor::decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_cursor_belongs_to_its_query_and_keeps_its_times() {
        let cursor =
            |query: &str| Cursor { query: hash(query), since: Some(5), until: None, place: place(9, "a") }.encode();
        let read = |query: &str| read_query(Params::parse(Some(query), 0).unwrap(), hash(query));
        let same =
            read(&format!("limit=3&state=failed&q=x&cursor={}", cursor("q=x&limit=9&stage=&state=failed"))).unwrap();
        assert_eq!((same.limit, same.filter.since, same.after), (3, Some(5), Some(place(9, "a"))));
        for other in ["q=x", "q=x&state=running", "q=x&state=failed&order=oldest", "q=xstate&failed="] {
            let refused = read(&format!("state=failed&q=x&cursor={}", cursor(other))).unwrap_err();
            assert!(refused.message().contains("another query"), "{other}: {refused:?}");
        }
    }

    #[test]
    fn durations_are_seconds() {
        assert_eq!(
            [micros("0"), micros("1.5"), micros("1e9")],
            [Some(0), Some(1_500_000), Some(1_000_000_000_000_000)]
        );
        for bad in ["-1", "x", "inf", "NaN", "1m"] {
            assert_eq!(micros(bad), None, "{bad}");
        }
    }
}
