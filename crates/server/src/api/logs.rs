//! `GET /api/v1/logs`: records, page by page or all of them.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, Version};
use runstone_record::limits::{LOGS_TERMS_MAX, PAGE_ROWS_DEFAULT};
use runstone_record::terms::terms;
use runstone_record::{Column, Kind, Level, RecordType};
use runstone_store::{Cursor, LogsQuery, Order};

use super::format::{NAMES, Wanted, respond, varies};
use super::params::{Params, bad, path_run};
use super::{App, json_bytes};
use crate::http::ApiError;

pub(super) async fn page(
    State(app): State<App>,
    version: Version,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let mut params = app.params(query.as_deref())?;
    let sources = app.sources_of(&mut params);
    let mut wanted = read_query(params, Order::Newest, &headers)?;
    wanted.format.over(version)?;
    wanted.query.any_of.extend(sources);
    app.answer(wanted).await
}

/// `GET /api/v1/runs/{run_id}/logs`: what one run said, in the order in which it happened.
pub(super) async fn page_of_run(
    State(app): State<App>,
    run_id: Result<Path<String>, PathRejection>,
    version: Version,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let run_id = path_run(run_id)?;
    let mut params = app.params(query.as_deref())?;
    params.refuse("run_id", "stands in the path")?;
    let sources = app.sources_of(&mut params);
    let mut wanted = read_query(params, Order::Oldest, &headers)?;
    wanted.format.over(version)?;
    wanted.query.any_of.extend(sources);
    app.known_run(&run_id).await?;
    wanted.query.equals.push((Column::RunId, run_id));
    app.answer(wanted).await
}

/// What is asked for, and how.
#[derive(Debug)]
pub(super) struct LogsWanted {
    /// Its limit is that of a page.
    query: LogsQuery,
    format: Wanted,
    /// Records of an export.
    limit: Option<u64>,
}

impl App {
    async fn answer(&self, wanted: LogsWanted) -> Result<Response, ApiError> {
        self.fresh(&self.recent_progress).await?;
        let LogsWanted { query, format, limit } = wanted;
        match format {
            Wanted::Json => {
                let page = self.observed(self.sql.logs(query)).await?;
                Ok(varies(json_bytes(StatusCode::OK, page.into_body())))
            }
            Wanted::Stream(format) => {
                respond(self.sql.export(query, limit, format).await, format, "logs", &self.metrics.exports)
            }
        }
    }
}

impl App {
    /// The source systems that the configuration names for an environment and an owner.
    pub(super) fn sources_of(&self, params: &mut Params) -> Option<(Column, Vec<String>)> {
        let (environment, owner) = (params.text("environment"), params.text("owner"));
        let is_asked = environment.is_some() || owner.is_some();
        let names = || self.runs.sources().names(environment.as_deref(), owner.as_deref());
        is_asked.then(|| (Column::SourceSystem, names()))
    }
}

pub(super) fn read_query(mut params: Params, usual: Order, headers: &HeaderMap) -> Result<LogsWanted, ApiError> {
    let format = match params.read("format", NAMES, Wanted::named)? {
        Some(named) => named,
        None => Wanted::accepted(headers)?,
    };
    let (page_rows, limit) = match format {
        Wanted::Json => (params.limit()?, None),
        Wanted::Stream(_) => (PAGE_ROWS_DEFAULT, params.read("limit", "1 or more", at_least_one)?),
    };
    let query = LogsQuery {
        order: params.read("order", "newest or oldest", order)?.unwrap_or(usual),
        limit: page_rows,
        cursor: params.read("cursor", "the next of an earlier page", |text| Cursor::decode(text).ok())?,
        ..read_filter(&mut params)?
    };
    params.finish()?;
    Ok(LogsWanted { query, format, limit })
}

fn at_least_one(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number| *number > 0)
}

/// Which records, by themselves.
pub(super) fn read_filter(params: &mut Params) -> Result<LogsQuery, ApiError> {
    let mut wanted = LogsQuery {
        min_level: params.read("level", "DEBUG, INFO, WARNING, ERROR or CRITICAL", Level::read)?,
        since: params.time("since")?,
        until: params.time("until")?,
        contains: params.read("q", "words or \"phrases\", at least one", some_terms)?.unwrap_or_default(),
        metadata: params.family("metadata.KEY"),
        ..LogsQuery::default()
    };
    let types: Vec<&str> = RecordType::ALL.iter().map(|kind| kind.as_str()).collect();
    if let Some(kind) = params.read("type", &format!("one of {}", types.join(", ")), RecordType::read)? {
        wanted.equals.push((Column::Type, kind.as_str().to_owned()));
    }
    for column in Column::ALL.into_iter().filter(|column| is_filter(*column)) {
        if let Some(value) = params.stored(column)? {
            wanted.equals.push((column, value));
        }
    }
    few("q", "words and phrases", wanted.contains.len())?;
    few("metadata.KEY", "conditions", wanted.metadata.len())?;
    Ok(wanted)
}

/// A text without a word would be a filter that filters nothing.
fn some_terms(text: &str) -> Option<Vec<String>> {
    Some(terms(text)).filter(|terms| !terms.is_empty())
}

fn few(name: &str, what: &str, count: usize) -> Result<(), ApiError> {
    match count > LOGS_TERMS_MAX {
        true => Err(bad(name, &format!("may have {LOGS_TERMS_MAX} {what}, got {count}"))),
        false => Ok(()),
    }
}

fn order(text: &str) -> Option<Order> {
    match text {
        "newest" => Some(Order::Newest),
        "oldest" => Some(Order::Oldest),
        _ => None,
    }
}

/// The columns that a record is looked up by.
pub(super) fn is_filter(column: Column) -> bool {
    matches!(column.kind(), Kind::Id | Kind::Identifier | Kind::Label | Kind::Hex)
}

#[cfg(test)]
mod tests {
    use super::*;
    use runstone_record::ErrorCode;

    fn read(text: &str) -> Result<LogsWanted, ApiError> {
        Params::parse(Some(text), 0).and_then(|params| read_query(params, Order::Newest, &HeaderMap::new()))
    }

    #[test]
    fn every_filter_finds_its_place() {
        let text = "stage=load&run_id=a&level=warn&type=ERROR&q=disk%20%22is%20full%22&metadata.a.b=c&order=oldest&limit=7&status=Failed";
        let query = read(text).unwrap().query;
        assert_eq!(query.min_level, Some(Level::Warning));
        assert_eq!(query.contains, ["disk", "is full"]);
        assert_eq!(query.metadata, [("a.b".to_owned(), "c".to_owned())]);
        assert_eq!((query.order, query.limit), (Order::Oldest, 7));
        let equals: Vec<_> = query.equals.iter().map(|(column, value)| (column.name(), value.as_str())).collect();
        assert_eq!(equals, [("type", "error"), ("stage", "load"), ("run_id", "a"), ("status", "Failed")]);
    }

    #[test]
    fn a_filter_is_what_records_keep() {
        let query = read("id=01980000-ABCD-7000-8000-00000000000F&trace_id=4BF9&hostname=a%00B&q=%00").unwrap().query;
        let equals: Vec<_> = query.equals.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(equals, ["01980000-abcd-7000-8000-00000000000f", "a\u{FFFD}B", "4bf9"]);
        assert_eq!(query.contains, ["\u{FFFD}"]);
        for (text, rule) in [
            ("id=nope", "parameter id: must be a UUID such as 01980000-0000-7000-8000-000000000000, got nope"),
            ("run_id=../../etc", "parameter run_id: must begin with a letter or a digit, got ../../etc"),
            ("stage=a%20b", "parameter stage: must consist of letters, digits and . _ : + @ -, got a b"),
            ("span_id=0x1", "parameter span_id: must be 1 to 64 hexadecimal digits, got 0x1"),
            ("q=%20", "parameter q: must be words or \"phrases\", at least one, got  "),
            ("q=%22%22", "parameter q: must be words or \"phrases\", at least one, got \"\""),
            (
                "type=x",
                "parameter type: must be one of start, status, code, info, result, warning, error, success, end, log, activity, got x",
            ),
        ] {
            assert_eq!(read(text).unwrap_err().message(), rule, "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in [
            "level=loud",
            "type=x",
            "order=up",
            "cursor=%%%",
            "message=x",
            "runid=a",
            "stage=a&stage=b",
            "format=xml",
            "limit=1001",
            "format=csv&limit=0",
            "format=csv&limit=-1",
        ] {
            let refused = read(text);
            assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidParameter, "{text}");
        }
    }
}
