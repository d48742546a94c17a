//! Batches of rows become one. Owns joining dictionaries without comparing their words: whoever writes the rows sorts the
//! words anyway, and finds those that repeat.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::concat;
use arrow::datatypes::{DataType, Int32Type};

use crate::lake::LakeError;
use crate::lake::source::read_schema;

/// All rows, in the order of the batches.
pub(super) fn join(batches: &[RecordBatch]) -> Result<RecordBatch, LakeError> {
    let schema = read_schema();
    if let [batch] = batches {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().enumerate().map(|(place, field)| {
        let parts: Vec<&ArrayRef> = batches.iter().map(|batch| batch.column(place)).collect();
        match field.data_type() {
            _ if parts.is_empty() => Ok(arrow::array::new_empty_array(field.data_type())),
            DataType::Dictionary(_, _) => dictionaries(&parts),
            _ => concat(&parts.iter().map(AsRef::as_ref).collect::<Vec<_>>()).map_err(failed),
        }
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    RecordBatch::try_new(schema, columns).map_err(failed)
}

fn dictionaries(parts: &[&ArrayRef]) -> Result<ArrayRef, LakeError> {
    let rows = parts.iter().map(Array::len).sum();
    let (mut keys, mut nulls) = (Vec::with_capacity(rows), Vec::with_capacity(parts.len()));
    let mut words: Vec<&dyn Array> = Vec::new();
    let (mut start, mut end) = (0_i32, 0_i32);
    for part in parts {
        let part = part.as_dictionary::<Int32Type>();
        let own = part.values();
        // Batches of one row group share their words.
        if words.last().is_none_or(|last| !is_same(last.as_string(), own.as_string())) {
            start = end;
            let more = i32::try_from(own.len()).map_err(failed)?;
            end = start.checked_add(more).ok_or_else(|| failed("too many words"))?;
            words.push(own.as_ref());
        }
        keys.extend(part.keys().values().iter().map(|key| key.wrapping_add(start)));
        nulls.push(part.nulls());
    }
    let nulls = joined_nulls(&nulls, parts);
    let words = concat(&words).map_err(failed)?;
    // A key of a row without value may name anything.
    let keys = match &nulls {
        Some(nulls) => (0..rows).map(|row| if nulls.is_valid(row) { keys[row] } else { 0 }).collect(),
        None => keys,
    };
    let array = DictionaryArray::try_new(Int32Array::new(keys.into(), nulls), words).map_err(failed)?;
    Ok(Arc::new(array))
}

fn is_same(one: &StringArray, other: &StringArray) -> bool {
    one.len() == other.len() && one.value_data().as_ptr() == other.value_data().as_ptr() && !one.value_data().is_empty()
}

fn joined_nulls(nulls: &[Option<&NullBuffer>], parts: &[&ArrayRef]) -> Option<NullBuffer> {
    if nulls.iter().all(Option::is_none) {
        return None;
    }
    let mut bits = arrow::array::BooleanBufferBuilder::new(parts.iter().map(Array::len).sum());
    for (nulls, part) in nulls.iter().zip(parts) {
        match nulls {
            Some(nulls) => bits.append_buffer(nulls.inner()),
            None => bits.append_n(part.len(), true),
        }
    }
    Some(NullBuffer::new(bits.finish()))
}

/// What a batch takes in memory; words that several batches share count in each.
pub(super) fn bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| column.to_data().get_slice_memory_size().unwrap_or(0)).sum()
}

fn failed(error: impl std::fmt::Display) -> LakeError {
    LakeError::Internal(format!("join rows: {error}"))
}
