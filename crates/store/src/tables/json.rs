//! The columns of JSON files, from what their first objects have. Owns how much of a file is read for that; refuses to read
//! large arrays, which would have to be read whole.

use std::io::BufReader;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::json::reader::{infer_json_schema, infer_json_schema_from_iterator};
use bytes::Buf;
use object_store::{ObjectMeta, ObjectStoreExt};
use runstone_record::limits::{TABLE_JSON_ARRAY_BYTES_MAX, TABLE_JSON_GUESS_BYTES};

use super::TableError;
use super::format::GUESS_ROWS;
use super::place::Place;

/// Is the first file one array, and not an object a line?
pub(super) async fn is_array(place: &Place, metas: &[ObjectMeta]) -> Result<bool, TableError> {
    let Some(first) = metas.first() else { return Ok(false) };
    let start = place.store.get_range(&first.location, 0..first.size.min(1_024)).await?;
    Ok(start.trim_ascii_start().first() == Some(&b'['))
}

/// The columns of all files together.
pub(super) async fn infer(place: &Place, metas: &[ObjectMeta], array: bool) -> Result<SchemaRef, TableError> {
    let mut schemas = Vec::with_capacity(metas.len());
    for meta in metas {
        schemas.push(if array { of_array(place, meta).await? } else { of_lines(place, meta).await? });
    }
    let merged = Schema::try_merge(schemas);
    let merged = merged.map_err(|error| TableError::Unfit(format!("its files do not fit together: {error}")))?;
    Ok(Arc::new(merged))
}

fn unfit(meta: &ObjectMeta, why: impl std::fmt::Display) -> TableError {
    TableError::Unfit(format!("{}: {why}", meta.location))
}

async fn of_lines(place: &Place, meta: &ObjectMeta) -> Result<Schema, TableError> {
    let start = place.store.get_range(&meta.location, 0..meta.size.min(TABLE_JSON_GUESS_BYTES)).await?;
    let whole = meta.size <= TABLE_JSON_GUESS_BYTES;
    let end = if whole { Some(start.len()) } else { start.iter().rposition(|byte| *byte == b'\n') };
    let end = end.ok_or_else(|| unfit(meta, format!("a line has more than {TABLE_JSON_GUESS_BYTES} bytes")))?;
    let lines = BufReader::new(start.slice(..end).reader());
    infer_json_schema(lines, Some(GUESS_ROWS)).map(|(schema, _)| schema).map_err(|error| unfit(meta, error))
}

async fn of_array(place: &Place, meta: &ObjectMeta) -> Result<Schema, TableError> {
    if meta.size > TABLE_JSON_ARRAY_BYTES_MAX {
        let message = format!("an array may have {TABLE_JSON_ARRAY_BYTES_MAX} bytes; write an object a line instead");
        return Err(unfit(meta, message));
    }
    let bytes = place.store.get(&meta.location).await?.bytes().await?;
    let objects: Vec<serde_json::Value> = serde_json::from_slice(&bytes).map_err(|error| unfit(meta, error))?;
    let objects = objects.iter().take(GUESS_ROWS).map(Ok);
    infer_json_schema_from_iterator(objects).map_err(|error| unfit(meta, error))
}
