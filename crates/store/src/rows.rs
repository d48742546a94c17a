//! A selection of a chunk's rows.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::take;
use arrow::error::ArrowError;

/// Which rows of a chunk.
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    /// Neighbours: the first and how many.
    Range(usize, usize),
    /// Some, by their place in the chunk.
    Picked(UInt32Array),
}

impl Rows {
    pub(crate) fn len(&self) -> usize {
        match self {
            Rows::Range(_, len) => *len,
            Rows::Picked(picked) => picked.len(),
        }
    }

    /// The first of them.
    pub(crate) fn first(&self, count: usize) -> Self {
        match self {
            Rows::Range(start, len) => Rows::Range(*start, count.min(*len)),
            Rows::Picked(picked) => Rows::Picked(picked.slice(0, count.min(picked.len()))),
        }
    }

    pub(crate) fn iter(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        match self {
            Rows::Range(start, len) => Box::new(*start..*start + *len),
            Rows::Picked(picked) => Box::new(picked.values().iter().map(|row| *row as usize)),
        }
    }
}

pub(crate) fn pick(values: &ArrayRef, rows: &Rows) -> Result<ArrayRef, ArrowError> {
    match rows {
        Rows::Range(start, len) => Ok(values.slice(*start, *len)),
        Rows::Picked(picked) => take(values, picked, None),
    }
}
