//! Is it the same record? Owns reading those of the lake that have an id, and comparing them with what is about to be
//! written.
//!
//! All columns count but those that the server stamps on: where the client gave no time, that of arrival stands in its
//! place, and two such times are equal.

use std::collections::{HashMap, HashSet};

use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use arrow::row::{OwnedRow, RowConverter, SortField};
use parquet::arrow::arrow_reader::RowSelection;
use runstone_record::{Column, RecordId};

use super::DeadLetter;
use super::suspects::{Place, Suspects};
use crate::columns::arrow_type;
use crate::lake::LakeError;
use crate::lake::encode::internal;
use crate::lake::source::{Reading, Source};
use crate::rows::Rows;

/// Why a record is not in the lake.
const REASON: &str = "its id stands for another record, which the lake has had for longer";

/// A record of the lake, or of the flush, as far as it is compared.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: RecordId,
    journal: String,
    position: u64,
    timestamp: i64,
    /// Does the time of arrival stand in place of one that the client gave?
    stamped: bool,
    content: OwnedRow,
}

impl Known {
    fn is_same(&self, other: &Known) -> bool {
        let same_time = self.timestamp == other.timestamp || (self.stamped && other.stamped);
        same_time && self.content == other.content
    }
}

/// What a client says of a record, apart from its id and its time.
fn content_columns() -> impl Iterator<Item = Column> {
    Column::ALL.into_iter().filter(|column| !column.is_stamped() && !matches!(column, Column::Id | Column::Timestamp))
}

/// One layout for records from everywhere.
struct Contents {
    converter: RowConverter,
}

impl Contents {
    fn new() -> Result<Self, LakeError> {
        let fields = content_columns().map(|column| SortField::new(arrow_type(column))).collect();
        Ok(Self { converter: RowConverter::new(fields).map_err(internal)? })
    }

    fn of(&self, columns: &[ArrayRef]) -> Result<Vec<OwnedRow>, LakeError> {
        let rows = self.converter.convert_columns(columns).map_err(internal)?;
        Ok(rows.iter().map(|row| row.owned()).collect())
    }
}

/// The records of a row group that have one of these ids.
pub(super) async fn matches(source: Source, group: usize, wanted: Vec<RecordId>) -> Result<Vec<Known>, LakeError> {
    let wanted: HashSet<RecordId> = wanted.into_iter().collect();
    let rows = usize::try_from(source.group(group).num_rows()).unwrap_or(0);
    let reading = Reading { group, columns: Some(vec![Column::Id]), rows: None };
    let selection = source
        .read(reading, move |batches| {
            let (mut mask, mut any) = (BooleanBufferBuilder::new(rows), false);
            for batch in batches {
                let batch = batch?;
                let ids = batch.column(0).as_string::<i32>();
                for row in 0..ids.len() {
                    let found = RecordId::parse(ids.value(row)).is_ok_and(|id| wanted.contains(&id));
                    any |= found;
                    mask.append(found);
                }
            }
            Ok(any.then(|| RowSelection::from_boolean_buffer(mask.finish())))
        })
        .await?;
    let Some(rows) = selection else { return Ok(Vec::new()) };
    let reading = Reading { group, columns: None, rows: Some(rows) };
    source
        .read(reading, |batches| {
            let contents = Contents::new()?;
            let mut known = Vec::new();
            for batch in batches {
                read_known(&batch?, &contents, &mut known)?;
            }
            Ok(known)
        })
        .await
}

fn read_known(batch: &RecordBatch, contents: &Contents, known: &mut Vec<Known>) -> Result<(), LakeError> {
    let column = |column: Column| -> Result<ArrayRef, LakeError> {
        let values = batch.column_by_name(column.name());
        let values = values.ok_or_else(|| LakeError::Internal(format!("compare records: no {}", column.name())))?;
        cast(values, &arrow_type(column)).map_err(internal)
    };
    let columns = content_columns().map(column).collect::<Result<Vec<_>, _>>()?;
    let (ids, journals) = (column(Column::Id)?, column(Column::Journal)?);
    let (ids, journals) = (ids.as_string::<i32>(), journals.as_string::<i32>());
    let positions = column(Column::Position)?;
    let positions = positions.as_primitive::<Int64Type>();
    let (times, arrivals) = (column(Column::Timestamp)?, column(Column::IngestedAt)?);
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let arrivals = arrivals.as_primitive::<TimestampMicrosecondType>();
    for (row, content) in contents.of(&columns)?.into_iter().enumerate() {
        let Ok(id) = RecordId::parse(ids.value(row)) else { continue };
        known.push(Known {
            id,
            journal: journals.value(row).to_owned(),
            position: u64::try_from(positions.value(row)).unwrap_or(0),
            timestamp: times.value(row),
            stamped: times.value(row) == arrivals.value(row),
            content,
        });
    }
    Ok(())
}

/// The positions of records that are there before, in order, and letters of those that differ from the first of their id.
pub(super) fn compare(
    suspects: &Suspects,
    mut known: HashMap<RecordId, Vec<Known>>,
) -> Result<(Vec<u64>, Vec<DeadLetter>), LakeError> {
    let ids = || suspects.places().chunk_by(|one, other| one.id == other.id);
    let doubtful = |places: &&[Place]| places.len() > 1 || known.contains_key(&places[0].id);
    let wanted: Vec<Place> = ids().filter(doubtful).flatten().copied().collect();
    let (mut dropped, mut letters) = (Vec::new(), Vec::new());
    for (place, own) in wanted.iter().zip(read_suspects(suspects, &wanted)?) {
        let before = known.entry(own.id).or_default();
        let Some(first) = before.iter().min_by_key(|before| (&before.journal, before.position)) else {
            before.push(own);
            continue;
        };
        dropped.push(own.position);
        if !before.iter().any(|before| before.is_same(&own)) {
            letters.push(DeadLetter {
                journal: own.journal,
                position: own.position,
                first_journal: first.journal.clone(),
                first_position: first.position,
                reason: REASON,
                record: suspects.json(*place),
            });
        }
    }
    dropped.sort_unstable();
    letters.sort_unstable_by_key(|letter| letter.position);
    Ok((dropped, letters))
}

/// Records of the flush, in the order of these places.
fn read_suspects(suspects: &Suspects, places: &[Place]) -> Result<Vec<Known>, LakeError> {
    let contents = Contents::new()?;
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_unstable_by_key(|place| (places[*place].chunk, places[*place].row));
    let mut found: Vec<Option<Known>> = vec![None; places.len()];
    for wanted in order.chunk_by(|one, other| places[*one].chunk == places[*other].chunk) {
        let chunk = &suspects.chunks[places[wanted[0]].chunk as usize];
        let rows = Rows::Picked(wanted.iter().map(|place| places[*place].row).collect::<Vec<_>>().into());
        let columns = content_columns().map(|column| chunk.column(column, &rows)).collect::<Result<Vec<_>, _>>();
        let arrivals = chunk.column(Column::IngestedAt, &rows).map_err(internal)?;
        let arrivals = arrivals.as_primitive::<TimestampMicrosecondType>().values().to_vec();
        let contents = contents.of(&columns.map_err(internal)?)?;
        for ((place, content), arrived) in wanted.iter().zip(contents).zip(arrivals) {
            let Place { id, timestamp, .. } = places[*place];
            found[*place] = Some(Known {
                id,
                journal: suspects.journal.clone(),
                position: suspects.position(places[*place]),
                timestamp,
                stamped: timestamp == arrived,
                content,
            });
        }
    }
    Ok(found.into_iter().flatten().collect())
}
