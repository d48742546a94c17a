//! The order of rows in a file. Owns which rows make a row group and how they lie inside it; refuses to move them.

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::Int64Type;
use runstone_record::Column;

use crate::rows::Rows;

/// The order of the positions; none where the rows lie so already.
///
/// Ids that the server minted, positions and times of arrival then cost nearly nothing, and times little. Any other
/// order costs as many bits as it has information, three times over: in `id`, `position` and `timestamp`.
pub(crate) fn by_position(rows: &RecordBatch) -> Option<UInt32Array> {
    let positions = rows.column_by_name(Column::Position.name())?.as_primitive_opt::<Int64Type>()?.values();
    if positions.is_sorted() {
        return None;
    }
    let mut order: Vec<u32> = (0..u32::try_from(positions.len()).ok()?).collect();
    order.sort_by_key(|row| positions[*row as usize]);
    Some(order.into())
}

/// Row groups of at most so many rows, the times of each of which lie at or after those of the one before. In a group
/// the rows keep their order. Rows are left where they are as long as that is enough.
pub(crate) fn groups(times: &[i64], rows: &Rows, rows_max: usize) -> Vec<Rows> {
    let count = rows.len().div_ceil(rows_max.max(1));
    if count <= 1 {
        return (rows.len() > 0).then(|| rows.clone()).into_iter().collect();
    }
    // Groups of one size compress better than full ones and a rest.
    let size = rows.len().div_ceil(count);
    let mut order: Vec<u32> = rows.iter().filter_map(|row| u32::try_from(row).ok()).collect();
    let time = |row: &u32| times[*row as usize];
    let is_ordered =
        order.chunks(size).is_sorted_by(|before, after| before.iter().map(time).max() <= after.iter().map(time).min());
    if is_ordered && let Rows::Range(start, len) = rows {
        return (0..*len).step_by(size).map(|from| Rows::Range(start + from, size.min(len - from))).collect();
    }
    if !is_ordered {
        order.sort_unstable_by_key(|row| (time(row), *row));
        order.chunks_mut(size).for_each(<[u32]>::sort_unstable);
    }
    order.chunks(size).map(|group| Rows::Picked(group.to_vec().into())).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn groups_hold_every_row_once_and_disjoint_times(
            times in prop::collection::vec(prop_oneof![0..20_i64, any::<i64>()], 0..200),
            sorted in any::<bool>(),
            rows_max in 1..50_usize,
            skip in 0..3_usize,
        ) {
            let mut times = times;
            if sorted {
                times.sort_unstable();
            }
            let start = skip.min(times.len());
            let rows = Rows::Range(start, times.len() - start);
            let picked: Vec<u32> = (0..times.len() as u32).filter(|row| row % 3 != skip as u32).collect();
            for rows in [rows, Rows::Picked(picked.into())] {
                let groups = groups(&times, &rows, rows_max);
                let mut all: Vec<usize> = groups.iter().flat_map(Rows::iter).collect();
                all.sort_unstable();
                prop_assert_eq!(all, rows.iter().collect::<Vec<_>>());
                let mut latest = i64::MIN;
                for group in groups {
                    prop_assert!((1..=rows_max).contains(&group.len()));
                    prop_assert!(group.iter().is_sorted());
                    prop_assert!(latest <= group.iter().map(|row| times[row]).min().unwrap());
                    latest = group.iter().map(|row| times[row]).max().unwrap();
                }
            }
        }
    }
}
