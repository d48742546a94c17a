//! What must be equal before and after a merge. Owns counting rows and adding up their identities, whatever their order;
//! refuses to look at other columns.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use runstone_record::Column;
use xxhash_rust::xxh3::xxh3_128_with_seed;

use crate::lake::LakeError;
use crate::lake::source::{Reading, Source};

/// The sum over rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) rows: u64,
    /// The least and the greatest position.
    positions: Option<(i64, i64)>,
    /// The sum of hashes of position and id.
    identities: u128,
}

impl Tally {
    pub(crate) const ZERO: Tally = Tally { rows: 0, positions: None, identities: 0 };

    /// Of all rows of a file.
    pub(crate) async fn of(source: &Source) -> Result<Tally, LakeError> {
        let mut sum = Tally::ZERO;
        for group in 0..source.metadata().num_row_groups() {
            let columns = Some(vec![Column::Id, Column::Position]);
            let reading = Reading { group, columns, rows: None };
            let part = source.read(reading, |batches| {
                let mut sum = Tally::ZERO;
                for batch in batches {
                    sum.add(&batch?)?;
                }
                Ok(sum)
            });
            sum = sum.plus(part.await?);
        }
        Ok(sum)
    }

    pub(crate) fn plus(self, other: Tally) -> Tally {
        let positions = match (self.positions, other.positions) {
            (Some((least, greatest)), Some((low, high))) => Some((least.min(low), greatest.max(high))),
            (one, other) => one.or(other),
        };
        Tally { rows: self.rows + other.rows, positions, identities: self.identities.wrapping_add(other.identities) }
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), LakeError> {
        let missing = || LakeError::Internal("count rows: a column is missing".to_owned());
        let ids = batch.column_by_name(Column::Id.name()).and_then(|ids| ids.as_string_opt::<i32>());
        let positions = batch.column_by_name(Column::Position.name());
        let positions = positions.and_then(|positions| positions.as_primitive_opt::<Int64Type>());
        let (ids, positions) = ids.zip(positions).ok_or_else(missing)?;
        let mut identities = self.identities;
        for (row, position) in positions.values().iter().enumerate() {
            let hash = xxh3_128_with_seed(ids.value(row).as_bytes(), position.cast_unsigned());
            identities = identities.wrapping_add(hash);
        }
        let range = arrow::compute::min(positions).zip(arrow::compute::max(positions));
        *self = Tally { rows: self.rows, positions: self.positions, identities }.plus(Tally {
            rows: ids.len() as u64,
            positions: range,
            identities: 0,
        });
        Ok(())
    }
}
