//! `GET /api/v1/fields` and `/api/v1/values`: what there is to filter by, for whoever completes a filter.

use axum::extract::{RawQuery, State};
use axum::response::Response;
use http::StatusCode;
use runstone_record::wire::{FieldBody, FieldsAnswer, ValueBody, ValuesAnswer};
use runstone_record::{Column, ErrorCode};
use runstone_store::{Fields, Values, ValuesQuery, has_values, logs_schema, sql_type_name};

use super::logs::{is_filter, read_filter};
use super::params::Params;
use super::{App, json};
use crate::http::ApiError;
use crate::http::error::echo;

pub(super) async fn fields(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let mut params = app.params(query.as_deref())?;
    let sources = app.sources_of(&mut params);
    let mut filter = read_filter(&mut params)?;
    params.finish()?;
    filter.any_of.extend(sources);
    app.fresh(&app.recent_progress).await?;
    let found = app.observed(app.sql.fields(filter)).await?;
    json(StatusCode::OK, &fields_body(&found))
}

pub(super) async fn values(State(app): State<App>, RawQuery(query): RawQuery) -> Result<Response, ApiError> {
    let mut params = app.params(query.as_deref())?;
    let sources = app.sources_of(&mut params);
    let mut wanted = read_query(params)?;
    wanted.filter.any_of.extend(sources);
    let field = wanted.column.name().to_owned();
    app.fresh(&app.recent_progress).await?;
    let Values { values, truncated } = app.observed(app.sql.values(wanted)).await?;
    let values = values.into_iter().map(|(value, records)| ValueBody { value, records }).collect();
    json(StatusCode::OK, &ValuesAnswer { field, values, truncated })
}

/// What is to be counted, without the sources that the configuration names.
pub(super) fn read_query(mut params: Params) -> Result<ValuesQuery, ApiError> {
    let field = params.text("field");
    let (prefix, limit) = (params.text("prefix"), params.limit()?);
    let filter = read_filter(&mut params)?;
    params.finish()?;
    Ok(ValuesQuery { filter, column: column(field.as_deref())?, prefix, limit })
}

/// The field whose values are counted.
fn column(field: Option<&str>) -> Result<Column, ApiError> {
    let bad = |message: String| Err(ApiError::new(ErrorCode::InvalidParameter, format!("parameter field: {message}")));
    let countable = || {
        let names = Column::ALL.into_iter().filter(|column| has_values(*column)).map(Column::name);
        names.collect::<Vec<_>>().join(", ")
    };
    let Some(field) = field else { return bad(format!("must be one of {}", countable())) };
    match Column::ALL.into_iter().find(|column| column.name() == field) {
        Some(column) if has_values(column) => Ok(column),
        Some(column) => {
            bad(format!("values of {} hardly repeat, or are no words; count those of {}", column.name(), countable()))
        }
        None => bad(format!("must be one of {}, got {}", countable(), echo(field))),
    }
}

fn fields_body(found: &Fields) -> FieldsAnswer {
    let schema = logs_schema();
    let column = |(column, records): &(Column, u64)| FieldBody {
        name: column.name().to_owned(),
        kind: sql_type_name(schema.field(column.index()).data_type()),
        filter: is_filter(*column) || matches!(column, Column::Type | Column::Level),
        records: *records,
        sampled: false,
    };
    let key = |(key, records): &(String, u64)| FieldBody {
        name: format!("metadata.{key}"),
        kind: "json".to_owned(),
        filter: true,
        records: *records,
        sampled: found.is_sampled,
    };
    let fields = found.columns.iter().map(column).chain(found.metadata.iter().map(key)).collect();
    FieldsAnswer { fields, metadata_sample: found.sample }
}
