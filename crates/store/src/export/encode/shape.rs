//! Columns as Parquet and Arrow readers understand them. Owns what becomes of the types that only some of them know: the
//! plain type beneath a layout, or the text that the same value has in JSON; and names that differ.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;

use super::failed;
use crate::answer::{Cells, unique_names};
use crate::error::QueryError;

/// How rows change on their way into a file.
pub(super) struct Shape {
    schema: SchemaRef,
    columns: Vec<How>,
}

/// What becomes of a column.
#[derive(Debug, PartialEq)]
enum How {
    Same,
    Cast(DataType),
    Text,
}

impl Shape {
    pub(super) fn new(schema: &Schema) -> Self {
        let names = unique_names(schema.fields().iter().map(|field| field.name().as_str()));
        let columns: Vec<How> = schema.fields().iter().map(|field| how(field.data_type())).collect();
        let fields = schema.fields().iter().zip(names).zip(&columns).map(|((field, name), how)| {
            let kind = match how {
                How::Same => field.data_type().clone(),
                How::Cast(kind) => kind.clone(),
                How::Text => DataType::Utf8,
            };
            // What an engine says of its columns' nulls is not always so; and JSON's null is a text's absence.
            Field::new(name, kind, field.is_nullable() || *how != How::Same)
        });
        Self { schema: Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub(super) fn apply(&self, rows: &RecordBatch) -> Result<RecordBatch, QueryError> {
        let columns = rows.columns().iter().zip(&self.columns).map(|(values, how)| match how {
            How::Same => Ok(Arc::clone(values)),
            How::Cast(kind) => cast(values, kind),
            How::Text => texts(values),
        });
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(failed)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options).map_err(failed)
    }
}

fn texts(values: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let cells = Cells::new(values)?;
    let mut text = Vec::new();
    let texts = (0..values.len()).map(|row| {
        text.clear();
        cells.write_plain(row, &mut text).then(|| String::from_utf8_lossy(&text).into_owned())
    });
    Ok(Arc::new(texts.collect::<StringArray>()))
}

fn how(kind: &DataType) -> How {
    match kind {
        DataType::Dictionary(_, values) if is_known(values) => How::Cast(values.as_ref().clone()),
        DataType::RunEndEncoded(_, values) if is_known(values.data_type()) => How::Cast(values.data_type().clone()),
        DataType::Utf8View => How::Cast(DataType::Utf8),
        DataType::BinaryView => How::Cast(DataType::Binary),
        DataType::Float16 => How::Cast(DataType::Float32),
        DataType::Timestamp(TimeUnit::Second, zone) => {
            How::Cast(DataType::Timestamp(TimeUnit::Millisecond, zone.clone()))
        }
        kind if is_known(kind) => How::Same,
        _ => How::Text,
    }
}

/// Do Parquet and all usual readers have this type?
fn is_known(kind: &DataType) -> bool {
    match kind {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            is_known(item.data_type())
        }
        DataType::Struct(fields) => !fields.is_empty() && fields.iter().all(|field| is_known(field.data_type())),
        DataType::Map(entries, _) => is_known(entries.data_type()),
        DataType::Null
        | DataType::Boolean
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Binary
        | DataType::LargeBinary
        | DataType::FixedSizeBinary(_)
        | DataType::Timestamp(..)
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => true,
        kind => kind.is_integer(),
    }
}
