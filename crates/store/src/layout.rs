//! Columns of a batch in Arrow's layout: offsets, bytes, numbers and bits are taken over as they are.

use std::sync::Arc;

use arrow::array::{Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt32Array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::error::ArrowError;
use runstone_record::bits::Bits;
use runstone_record::values::{Data, Texts, Values};
use runstone_record::{Column, Kind};

use crate::chunk::Stored;

/// A column of a batch, its vectors taken over as buffers.
pub(crate) fn stored(column: Column, values: Values) -> Result<Stored, ArrowError> {
    let (data, valid) = values.into_parts();
    let nulls = valid.as_ref().map(nulls);
    Ok(match data {
        Data::Texts(texts) => Stored::Plain(Arc::new(strings(texts, nulls)?)),
        Data::Words { words, indices } => Stored::Words {
            words: strings(words, None)?,
            keys: Arc::new(UInt32Array::try_new(ScalarBuffer::from(indices), nulls)?),
        },
        Data::Ints(ints) if column.kind() == Kind::Time => Stored::Plain(Arc::new(
            TimestampMicrosecondArray::try_new(ScalarBuffer::from(ints), nulls)?.with_timezone("UTC"),
        )),
        Data::Ints(ints) => Stored::Plain(Arc::new(Int64Array::try_new(ScalarBuffer::from(ints), nulls)?)),
        Data::Floats(floats) => Stored::Plain(Arc::new(Float64Array::try_new(ScalarBuffer::from(floats), nulls)?)),
    })
}

fn strings(texts: Texts, nulls: Option<NullBuffer>) -> Result<StringArray, ArrowError> {
    let (ends, text) = texts.into_parts();
    let too_long = |_| ArrowError::OffsetOverflowError(text.len());
    i32::try_from(text.len()).map_err(too_long)?;
    let offsets: Vec<i32> = std::iter::once(0).chain(ends.into_iter().map(u32::cast_signed)).collect();
    StringArray::try_new(OffsetBuffer::new(ScalarBuffer::from(offsets)), Buffer::from_vec(text.into_bytes()), nulls)
}

fn nulls(valid: &Bits) -> NullBuffer {
    NullBuffer::new(BooleanBuffer::new(Buffer::from(valid.as_bytes()), 0, valid.len()))
}
