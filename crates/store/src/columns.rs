//! The tables' columns in Arrow's and SQL's words. Owns which type each column of a record has there, the table
//! `runs`, and how a type is called in answers; the list itself is `runstone_record::Column`.

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use runstone_record::{Column, Kind};

static LOGS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let fields = Column::ALL.map(|column| Field::new(column.name(), arrow_type(column), !is_required(column)));
    Arc::new(Schema::new(fields.to_vec()))
});

/// The table `logs`: every column of a record, in the record's order.
#[must_use]
pub fn logs_schema() -> SchemaRef {
    Arc::clone(&LOGS)
}

/// The columns of `runs`, as a run's body names them, with their types and whether they may be absent.
pub(crate) fn runs_schema() -> SchemaRef {
    let text = |name, nullable| Field::new(name, DataType::Utf8, nullable);
    let time = |name, nullable| Field::new(name, timestamp(), nullable);
    let int = |name, nullable| Field::new(name, DataType::Int64, nullable);
    Arc::new(Schema::new(vec![
        text("run_id", false),
        text("state", false),
        text("source_system", true),
        text("stage", true),
        text("title", true),
        time("started_at", false),
        time("ended_at", true),
        time("last_at", false),
        Field::new("duration", DataType::Float64, false),
        int("records", false),
        int("warnings", false),
        int("errors", false),
        int("row_count", true),
        text("failure", true),
        int("last_position", false),
        text("environment", true),
        text("owner", true),
        text("labels", false),
    ]))
}

/// Columns that every record has.
pub(crate) fn is_required(column: Column) -> bool {
    matches!(
        column,
        Column::Id | Column::Journal | Column::Position | Column::Timestamp | Column::IngestedAt | Column::Date
    )
}

pub(crate) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// A column's type in Arrow.
pub(crate) fn arrow_type(column: Column) -> DataType {
    match column.kind() {
        Kind::Id | Kind::Identifier | Kind::Word | Kind::Label | Kind::Text | Kind::Hex | Kind::Json => DataType::Utf8,
        Kind::Time => timestamp(),
        Kind::Int => DataType::Int64,
        Kind::Float => DataType::Float64,
        Kind::List => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
        Kind::Date => DataType::Date32,
    }
}

/// What a type is called in an answer: SQL's word, whatever the layout underneath.
#[must_use]
pub fn sql_type_name(kind: &DataType) -> String {
    let word = match kind {
        DataType::Null => "null",
        DataType::Boolean => "boolean",
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::UInt8 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 => "bigint",
        DataType::Float16 | DataType::Float32 => "real",
        DataType::Float64 => "double",
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            "decimal"
        }
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "text",
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => "bytes",
        DataType::Timestamp(_, Some(_)) => "timestamp",
        DataType::Timestamp(_, None) => "timestamp without time zone",
        DataType::Date32 | DataType::Date64 => "date",
        DataType::Time32(_) | DataType::Time64(_) => "time",
        DataType::Interval(_) | DataType::Duration(_) => "interval",
        DataType::Dictionary(_, values) => return sql_type_name(values),
        DataType::RunEndEncoded(_, values) => return sql_type_name(values.data_type()),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::ListView(item)
        | DataType::LargeListView(item)
        | DataType::FixedSizeList(item, _) => return format!("list of {}", sql_type_name(item.data_type())),
        DataType::Struct(_) => "record",
        DataType::Map(..) => "map",
        DataType::Union(..) => "json",
    };
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_column_in_order_and_no_hidden_layout() {
        let schema = logs_schema();
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert_eq!(names, Column::ALL.map(Column::name));
        for field in schema.fields() {
            assert!(!matches!(field.data_type(), DataType::Dictionary(..) | DataType::Utf8View), "{field}");
        }
        assert_eq!(sql_type_name(schema.field(Column::Capabilities.index()).data_type()), "list of text");
        assert_eq!(sql_type_name(schema.field(Column::Timestamp.index()).data_type()), "timestamp");
    }
}
