//! Data files hold what was put into them, whatever it was: any text, any number, nulls anywhere.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray, StringBuilder,
    TimestampMicrosecondArray, UInt32Array,
};
use arrow::compute::{cast, concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{PageIndexPolicy, RowGroupMetaData};
use proptest::prelude::*;
use proptest::sample::Index;
use runstone_record::{Column, Kind};

use crate::lake::encode::{EncodeOptions, Encoded, FileEncoder, file_schema};
use crate::lake::order::groups;
use crate::lake::{Bound, ColumnStats};
use crate::rows::Rows;

/// The years 0001 to 9999, in microseconds since 1970.
const TIMES: std::ops::RangeInclusive<i64> = -62_135_596_800_000_000..=253_402_300_799_999_999;

/// What a column's values are drawn from.
#[derive(Debug, Clone)]
struct Drawn {
    texts: Vec<String>,
    times: Vec<i64>,
    ints: Vec<i64>,
    floats: Vec<f64>,
    /// For each row the value, none for a null; used in turn.
    picks: Vec<Option<Index>>,
    as_dictionary: bool,
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-z]{0,3}",
        4 => "blk_-[0-9]{19} terminating",
        2 => "\\PC{0,80}",
        1 => prop::collection::vec(any::<char>(), 0..200).prop_map(String::from_iter),
        1 => Just("a\0b\0".to_owned()),
        1 => (60..70_usize).prop_map(|length| "\u{10FFFF}".repeat(length)),
        1 => (63..66_usize).prop_map(|length| format!("{}\u{D7FF}é", "x".repeat(length))),
        1 => (0..300_000_usize, any::<char>()).prop_map(|(length, each)| each.to_string().repeat(length / 4)),
    ]
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let int = prop_oneof![0..10_i64, any::<i64>(), Just(i64::MIN), Just(i64::MAX)];
    let float = prop_oneof![
        4 => prop::num::f64::ANY,
        1 => Just(0.0), 1 => Just(-0.0), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY)
    ];
    let nulls = prop_oneof![Just(0.0), Just(0.5), Just(1.0)];
    let picks = nulls.prop_flat_map(|nulls| {
        prop::collection::vec(
            prop::option::weighted(f64::clamp(1.0 - nulls, 0.000_001, 0.999_999), any::<Index>()),
            1..40,
        )
    });
    (
        prop::collection::vec(text(), 1..8),
        prop::collection::vec(TIMES, 1..20),
        prop::collection::vec(int, 1..20),
        prop::collection::vec(float, 1..20),
        picks,
        any::<bool>(),
    )
        .prop_map(|(texts, times, ints, floats, picks, as_dictionary)| Drawn {
            texts,
            times,
            ints,
            floats,
            picks,
            as_dictionary,
        })
}

impl Drawn {
    fn rows<'a, T>(&'a self, of: &'a [T], rows: usize, nullable: bool) -> impl Iterator<Item = Option<&'a T>> {
        (0..rows).map(move |row| match self.picks[row % self.picks.len()] {
            Some(pick) => Some(&of[(pick.index(of.len()) + row / self.picks.len()) % of.len()]),
            None if nullable => None,
            None => Some(&of[row % of.len()]),
        })
    }

    fn column(&self, column: Column, rows: usize, nullable: bool) -> ArrayRef {
        match column.kind() {
            Kind::Time => {
                let times: TimestampMicrosecondArray =
                    self.rows(&self.times, rows, nullable).map(Option::<&i64>::copied).collect();
                Arc::new(times.with_timezone("UTC"))
            }
            Kind::Int if column == Column::Position => {
                // Each position once, in no order.
                let step = if rows.is_multiple_of(7) { 5 } else { 7 };
                Arc::new(Int64Array::from_iter_values((0..rows).map(|row| (row * step % rows) as i64)))
            }
            Kind::Int => Arc::new(self.rows(&self.ints, rows, nullable).map(|v| v.copied()).collect::<Int64Array>()),
            Kind::Float => {
                Arc::new(self.rows(&self.floats, rows, nullable).map(|v| v.copied()).collect::<Float64Array>())
            }
            Kind::List => {
                let mut lists = ListBuilder::new(StringBuilder::new());
                for pick in self.rows(&self.ints, rows, nullable) {
                    let Some(pick) = pick else {
                        lists.append_null();
                        continue;
                    };
                    for item in 0..pick.unsigned_abs() % 4 {
                        let item = self.texts.get((item + pick.unsigned_abs()) as usize % (self.texts.len() + 1));
                        lists.values().append_option(item);
                    }
                    lists.append(true);
                }
                Arc::new(lists.finish())
            }
            _ => {
                let texts: StringArray = self.rows(&self.texts, rows, nullable).collect();
                let texts: ArrayRef = Arc::new(texts);
                let words = DataType::Dictionary(Box::new(DataType::Int16), Box::new(DataType::Utf8));
                if self.as_dictionary && column != Column::Id { cast(&texts, &words).unwrap() } else { texts }
            }
        }
    }
}

fn rows() -> impl Strategy<Value = (RecordBatch, usize, bool)> {
    let columns = prop::collection::vec(drawn(), file_schema().fields().len());
    let count = prop_oneof![3 => 1..60_usize, 1 => 8_000..20_000_usize];
    (columns, count, 1..40_usize, any::<bool>()).prop_map(|(drawn, rows, per_group, small)| {
        let per_group = if rows < 100 { per_group } else { 9_000 };
        let of = |(column, drawn): (Column, &Drawn)| {
            let field = file_schema().field(column.index()).clone();
            let mut drawn = drawn.clone();
            if rows > 100 {
                drawn.texts.iter_mut().for_each(|text| *text = text.chars().take(100).collect());
            }
            (field.name().clone(), drawn.column(column, rows, field.is_nullable()))
        };
        let columns: Vec<_> = Column::ALL.into_iter().zip(&drawn).map(of).collect();
        // Columns without a value may be left out.
        let kept = columns.into_iter().filter(|(_, values)| per_group % 2 == 0 || values.logical_null_count() < rows);
        (RecordBatch::try_from_iter(kept).unwrap(), per_group, small)
    })
}

fn encode(rows: &RecordBatch, per_group: usize, small: bool) -> (Encoded, Vec<RecordBatch>) {
    let times = rows["timestamp"].as_primitive::<TimestampMicrosecondType>().values().to_vec();
    let mut file = FileEncoder::new(EncodeOptions { small }).unwrap();
    let mut written = Vec::new();
    for group in groups(&times, &Rows::Range(0, rows.num_rows()), per_group) {
        let picked = UInt32Array::from_iter_values(group.iter().map(|row| row as u32));
        let group = take_record_batch(rows, &picked).unwrap();
        file.write_group(&group).unwrap();
        written.push(group);
    }
    (file.finish().unwrap(), written)
}

fn open(bytes: &Bytes) -> ParquetRecordBatchReaderBuilder<Bytes> {
    let options = ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Required);
    ParquetRecordBatchReaderBuilder::try_new_with_options(bytes.clone(), options).unwrap()
}

/// A group as it must come back: by position, in plain types, with every column.
fn plain(group: &RecordBatch, schema: &SchemaRef) -> RecordBatch {
    let positions = group["position"].as_primitive::<Int64Type>().values();
    let mut order: Vec<u32> = (0..group.num_rows() as u32).collect();
    order.sort_by_key(|row| positions[*row as usize]);
    let group = take_record_batch(group, &UInt32Array::from(order)).unwrap();
    let columns = schema.fields().iter().map(|field| match group.column_by_name(field.name()) {
        Some(values) => cast(values, field.data_type()).unwrap(),
        None => arrow::array::new_null_array(field.data_type(), group.num_rows()),
    });
    RecordBatch::try_new(Arc::clone(schema), columns.collect()).unwrap()
}

fn read_schema() -> SchemaRef {
    let schema = file_schema();
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::List(_) => {
            let item = Arc::new(Field::new("element", DataType::Utf8, true));
            Arc::new(field.as_ref().clone().with_data_type(DataType::List(item)))
        }
        _ => Arc::clone(field),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// Do the bounds hold for a value?
fn holds(stats: &ColumnStats, values: &ArrayRef) -> bool {
    let least = |holds: &dyn Fn(&Bound) -> bool| stats.least.as_ref().is_none_or(holds);
    let greatest = |holds: &dyn Fn(&Bound) -> bool| stats.greatest.as_ref().is_none_or(holds);
    let rows = (0..values.len()).filter(|row| values.is_valid(*row));
    match values.data_type() {
        DataType::Utf8 => rows.map(|row| values.as_string::<i32>().value(row)).all(|value| {
            least(&|bound| matches!(bound, Bound::Text(text) if text.as_str() <= value))
                && greatest(&|bound| matches!(bound, Bound::Text(text) if text.as_str() >= value))
        }),
        DataType::Float64 => rows.map(|row| values.as_primitive::<Float64Type>().value(row)).all(|value| {
            least(&|bound| matches!(bound, Bound::Float(float) if *float <= value))
                && greatest(&|bound| matches!(bound, Bound::Float(float) if *float >= value))
        }),
        DataType::Int64 | DataType::Timestamp(_, _) => {
            let values = cast(values, &DataType::Int64).unwrap();
            let values = values.as_primitive::<Int64Type>();
            rows.map(|row| values.value(row)).all(|value| {
                least(&|bound| matches!(bound, Bound::Int(int) if *int <= value))
                    && greatest(&|bound| matches!(bound, Bound::Int(int) if *int >= value))
            })
        }
        _ => stats.least.is_none() && stats.greatest.is_none(),
    }
}

fn texts_in_bounds(group: &RowGroupMetaData, rows: &RecordBatch) -> bool {
    rows.columns().iter().zip(group.columns()).all(|(values, chunk)| {
        let Some(texts) = values.as_string_opt::<i32>() else { return true };
        let stats = chunk.statistics().unwrap();
        stats.null_count_opt() == Some(values.null_count() as u64)
            && texts.iter().flatten().all(|text| {
                stats.min_bytes_opt().is_none_or(|least| least <= text.as_bytes())
                    && stats.max_bytes_opt().is_none_or(|greatest| greatest >= text.as_bytes())
            })
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn whatever_is_written_comes_back((rows, per_group, small) in rows()) {
        let (encoded, written) = encode(&rows, per_group, small);
        let schema = read_schema();
        let reader = open(&encoded.bytes);
        prop_assert_eq!(reader.schema().fields(), schema.fields());
        let metadata = Arc::clone(reader.metadata());
        prop_assert_eq!(metadata.num_row_groups(), written.len());

        let mut latest = i64::MIN;
        for (place, group) in written.iter().enumerate() {
            let expected = plain(group, &schema);
            let read = open(&encoded.bytes).with_row_groups(vec![place]).with_batch_size(1_000).build().unwrap();
            let read: Vec<_> = read.map(Result::unwrap).collect();
            let read = concat_batches(&schema, &read).unwrap();
            for (column, (read, expected)) in read.columns().iter().zip(expected.columns()).enumerate() {
                prop_assert!(read.to_data() == expected.to_data(), "column {}", schema.field(column).name());
            }
            let times = expected["timestamp"].as_primitive::<TimestampMicrosecondType>();
            prop_assert!(latest <= arrow::compute::min(times).unwrap());
            latest = arrow::compute::max(times).unwrap();
            prop_assert!(texts_in_bounds(metadata.row_group(place), &expected));

            let reader = open(&encoded.bytes);
            for column in [Column::Id, Column::RunId] {
                let texts = expected[column.name()].as_string::<i32>().clone();
                let bloom = reader.get_row_group_column_bloom_filter(place, column.index()).unwrap();
                prop_assert!(texts.iter().flatten().all(|text| bloom.as_ref().unwrap().check(text)));
            }
        }

        let all: Vec<_> = written.iter().map(|group| plain(group, &schema)).collect();
        let all = concat_batches(&schema, &all).unwrap();
        prop_assert_eq!(encoded.stats.rows, Some(all.num_rows() as u64));
        for (column, values) in Column::ALL.into_iter().zip(all.columns()) {
            let stats = encoded.stats.column(column).unwrap();
            prop_assert_eq!(stats.nulls, Some(values.null_count() as u64));
            prop_assert!(holds(stats, values), "{:?}", stats);
        }
        prop_assert!(encoded.stats.column(Column::Position).unwrap().least == Some(Bound::Int(0)));
    }
}

#[test]
fn a_flipped_bit_in_a_message_is_seen() {
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..500).map(|row| format!("message {row}"))));
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..500));
    let times: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_000_000; 500]).with_timezone("UTC"));
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::clone(&texts)),
        ("journal", Arc::clone(&texts)),
        ("position", numbers),
        ("timestamp", Arc::clone(&times)),
        ("ingested_at", times),
        ("message", texts),
    ])
    .unwrap();
    let (encoded, _) = encode(&rows, 500, false);
    let metadata = Arc::clone(open(&encoded.bytes).metadata());
    let (start, length) = metadata.row_group(0).column(Column::Message.index()).byte_range();
    // The page's header is no part of what is checked.
    for at in (start + 40..start + length).step_by(97) {
        let mut bytes = encoded.bytes.to_vec();
        bytes[usize::try_from(at).unwrap()] ^= 1;
        let mut reader = open(&Bytes::from(bytes)).build().unwrap();
        assert!(reader.any(|batch| batch.is_err()), "byte {at}");
    }
}
