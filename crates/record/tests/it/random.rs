//! Random records: as JSON, and as columns.

use proptest::prelude::*;
use runstone_record::build::BatchBuilder;
use runstone_record::{Batch, Column, Kind, Origin, RecordId};

use crate::{NOW, mint};

/// The columns that a batch stores.
pub(crate) fn stored() -> Vec<Column> {
    let stored = |column: &Column| *column != Column::Id && !column.is_stamped();
    Column::ALL.into_iter().filter(stored).collect()
}

/// A string, mostly of few, sometimes of any characters.
pub(crate) fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ab]{0,2}",
        1 => "\\PC{0,12}",
        1 => any::<String>().prop_map(|text| text.replace('\0', "")),
    ]
}

fn json_value() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("-0".to_owned()),
        Just("12345678901234567890123456789012345678".to_owned()),
        any::<i64>().prop_map(|number| number.to_string()),
        (-1e9_f64..1e9).prop_map(|number| format!("{number:e}")),
        text().prop_map(|text| quoted(&text)),
    ];
    leaf.prop_recursive(4, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            prop::collection::vec(("[abc]{0,2}", inner), 0..4).prop_map(|members| object(&members)),
        ]
    })
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).expect("a string")
}

fn object(members: &[(String, String)]) -> String {
    let members: Vec<String> = members.iter().map(|(name, value)| format!("{}:{value}", quoted(name))).collect();
    format!("{{{}}}", members.join(","))
}

fn field(column: Column) -> BoxedStrategy<String> {
    let identifier = || prop_oneof!["[a-c]", "[A-Za-z0-9][A-Za-z0-9_:+@-]{4,20}"].prop_map(|text| quoted(&text));
    match column.kind() {
        Kind::Identifier => identifier().boxed(),
        Kind::Word if column == Column::Type => {
            prop::sample::select(vec!["\"start\"", "\"End\"", "\"activity\"", "\"log\""])
                .prop_map(str::to_owned)
                .boxed()
        }
        Kind::Word => prop::sample::select(vec!["\"info\"", "40", "\"odd\""]).prop_map(str::to_owned).boxed(),
        Kind::Time => (-9_000_000_000_000_000_i64..9_000_000_000_000_000)
            .prop_map(|micros| quoted(&runstone_record::time::format_micros(micros)))
            .boxed(),
        Kind::Int => prop_oneof![0_i64..300, 0..=i64::MAX].prop_map(|number| number.to_string()).boxed(),
        Kind::Float => (0.0..1e6_f64).prop_map(|number| number.to_string()).boxed(),
        Kind::Hex => "[0-9a-fA-F]{1,32}".prop_map(|text| quoted(&text)).boxed(),
        Kind::Id => any::<u128>().prop_map(|id| quoted(&RecordId::from_u128(id).to_string())).boxed(),
        Kind::List => prop::collection::vec(text().prop_map(|text| quoted(&text)), 0..3)
            .prop_map(|items| format!("[{}]", items.join(",")))
            .boxed(),
        Kind::Json => {
            prop::collection::vec(("[abc]{0,2}", json_value()), 0..4).prop_map(|members| object(&members)).boxed()
        }
        Kind::Label | Kind::Text | Kind::Date => text().prop_map(|text| quoted(&text)).boxed(),
    }
}

/// The members of a valid record, in any order, some under names that no column has.
pub(crate) fn members() -> impl Strategy<Value = Vec<(String, String)>> {
    let columns: Vec<Column> = Column::ALL.into_iter().filter(|column| !column.is_stamped()).collect();
    let known = prop::sample::subsequence(columns, 1..8).prop_flat_map(|columns| {
        columns
            .into_iter()
            .map(|column| field(column).prop_map(move |value| (column.name().to_owned(), value)))
            .collect::<Vec<_>>()
    });
    let unknown = prop::collection::vec(("[abcx]{1,2}", json_value()), 0..3);
    (known, unknown)
        .prop_map(|(mut members, unknown)| {
            for (name, value) in unknown {
                if members.iter().all(|(taken, _)| *taken != name) {
                    members.push((name, value));
                }
            }
            members
        })
        .prop_shuffle()
}

/// A body of valid records, one a line.
pub(crate) fn lines() -> impl Strategy<Value = String> {
    prop::collection::vec(members().prop_map(|members| object(&members)), 1..10).prop_map(|records| records.join("\n"))
}

/// The members as one JSON object.
pub(crate) fn record(members: &[(String, String)]) -> String {
    object(members)
}

#[derive(Debug, Clone)]
enum Cell {
    Text(String),
    Int(i64),
    Float(f64),
}

fn cell(column: Column) -> BoxedStrategy<(Column, Cell)> {
    match column.kind() {
        Kind::Time | Kind::Int => prop_oneof![0_i64..4, 250..70_000_i64, any::<i64>()]
            .prop_map(move |number| (column, Cell::Int(number)))
            .boxed(),
        Kind::Float => prop_oneof![Just(-0.0), prop::num::f64::NORMAL]
            .prop_map(move |number| (column, Cell::Float(number)))
            .boxed(),
        _ => text().prop_map(move |text| (column, Cell::Text(text))).boxed(),
    }
}

fn origin() -> impl Strategy<Value = Option<Origin>> {
    prop::option::of((text(), any::<u64>(), any::<u32>(), any::<u32>(), text()).prop_map(
        |(key, body_hash, duplicates, rejected, errors)| Origin { key, body_hash, duplicates, rejected, errors },
    ))
}

/// A batch of any values, whether a client could have sent them or not.
pub(crate) fn batch() -> impl Strategy<Value = Batch> {
    let row = prop::sample::subsequence(stored(), 0..8)
        .prop_flat_map(|columns| columns.into_iter().map(cell).collect::<Vec<_>>());
    let id = prop::option::weighted(0.3, (any::<u128>(), any::<u64>()));
    let rows = prop::collection::vec((row, id, prop::bool::weighted(0.2)), 0..14);
    (rows, (row_of_all(), origin())).prop_map(|(rows, (last, origin))| {
        let mut builder = BatchBuilder::default();
        for (cells, id, undone) in rows {
            put(&mut builder, &cells);
            if undone {
                builder.undo_row();
            } else {
                builder.end_row(id.map(|(id, hash)| (RecordId::from_u128(id), hash)));
            }
        }
        put(&mut builder, &last);
        builder.end_row(None);
        builder.stamp(&mut mint(), NOW, origin)
    })
}

fn row_of_all() -> impl Strategy<Value = Vec<(Column, Cell)>> {
    prop_oneof![Just(Vec::new()), stored().into_iter().map(cell).collect::<Vec<_>>()]
}

fn put(builder: &mut BatchBuilder, cells: &[(Column, Cell)]) {
    for (column, cell) in cells {
        match cell {
            Cell::Text(text) => builder.set_text(*column, text),
            Cell::Int(number) => builder.set_int(*column, *number),
            Cell::Float(number) => builder.set_float(*column, *number),
        }
    }
}
