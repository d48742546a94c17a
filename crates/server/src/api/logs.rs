//! `GET /api/v1/logs`: pages of records.

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use runstone_record::limits::LOGS_TERMS_MAX;
use runstone_record::terms::terms;
use runstone_record::{Column, Kind, Level, RecordType};
use runstone_store::{Cursor, LogsQuery, Order};

use super::params::{Params, bad, path_run};
use super::{App, json_bytes};
use crate::http::ApiError;

pub(super) async fn page(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let mut params = app.params(query.as_deref())?;
    let sources = app.sources_of(&mut params);
    let mut wanted = read_query(params, Order::Newest)?;
    wanted.any_of.extend(sources);
    app.page(wanted).await
}

/// `GET /api/v1/runs/{run_id}/logs`: what one run said, in the order in which it happened.
pub(super) async fn page_of_run(
    State(app): State<App>,
    run_id: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, ApiError> {
    let run_id = path_run(run_id)?;
    let mut params = app.params(query.as_deref())?;
    params.refuse("run_id", "stands in the path")?;
    let sources = app.sources_of(&mut params);
    let mut wanted = read_query(params, Order::Oldest)?;
    wanted.any_of.extend(sources);
    app.known_run(&run_id).await?;
    wanted.equals.push((Column::RunId, run_id));
    app.page(wanted).await
}

impl App {
    async fn page(&self, wanted: LogsQuery) -> Result<Response, ApiError> {
        self.fresh(&self.recent_progress).await?;
        let page = self.observed(self.sql.logs(wanted)).await?;
        Ok(json_bytes(StatusCode::OK, page.into_body()))
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

fn read_query(mut params: Params, usual: Order) -> Result<LogsQuery, ApiError> {
    let wanted = LogsQuery {
        order: params.read("order", "newest or oldest", order)?.unwrap_or(usual),
        limit: params.limit()?,
        cursor: params.read("cursor", "the next of an earlier page", |text| Cursor::decode(text).ok())?,
        ..read_filter(&mut params)?
    };
    params.finish()?;
    Ok(wanted)
}

/// Which records, by themselves.
pub(super) fn read_filter(params: &mut Params) -> Result<LogsQuery, ApiError> {
    let mut wanted = LogsQuery {
        min_level: params.read("level", "DEBUG, INFO, WARNING, ERROR or CRITICAL", Level::read)?,
        since: params.time("since")?,
        until: params.time("until")?,
        contains: params.text("q").map(|text| terms(&text)).unwrap_or_default(),
        metadata: params.family("metadata.KEY"),
        ..LogsQuery::default()
    };
    if let Some(kind) = params.read("type", "one of a record's types", RecordType::read)? {
        wanted.equals.push((Column::Type, kind.as_str().to_owned()));
    }
    for column in Column::ALL.into_iter().filter(|column| is_filter(*column)) {
        if let Some(value) = params.text(column.name()) {
            wanted.equals.push((column, value));
        }
    }
    few("q", "words and phrases", wanted.contains.len())?;
    few("metadata.KEY", "conditions", wanted.metadata.len())?;
    Ok(wanted)
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

    #[test]
    fn every_filter_finds_its_place() {
        let text = "stage=load&run_id=a&level=warn&type=ERROR&q=disk%20%22is%20full%22&metadata.a.b=c&order=oldest&limit=7&status=Failed";
        let query = read_query(Params::parse(Some(text), 0).unwrap(), Order::Newest).unwrap();
        assert_eq!(query.min_level, Some(Level::Warning));
        assert_eq!(query.contains, ["disk", "is full"]);
        assert_eq!(query.metadata, [("a.b".to_owned(), "c".to_owned())]);
        assert_eq!((query.order, query.limit), (Order::Oldest, 7));
        let equals: Vec<_> = query.equals.iter().map(|(column, value)| (column.name(), value.as_str())).collect();
        assert_eq!(equals, [("type", "error"), ("stage", "load"), ("run_id", "a"), ("status", "Failed")]);
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for text in ["level=loud", "type=x", "order=up", "cursor=%%%", "message=x", "runid=a", "stage=a&stage=b"] {
            let refused = Params::parse(Some(text), 0).and_then(|params| read_query(params, Order::Newest));
            assert_eq!(refused.unwrap_err().code(), ErrorCode::InvalidParameter, "{text}");
        }
    }
}
