//! The order of rows in a file: which rows make a row group, and how they lie inside it.

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::datatypes::Int64Type;
use runstone_record::Column;

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
