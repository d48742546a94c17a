//! Small chunks into one: texts are copied as blocks, dictionaries are united word by word, and indices are
//! renumbered and kept in the narrowest width that serves.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanBufferBuilder, StringArray, UInt32Array, new_null_array};
use arrow::buffer::NullBuffer;
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, UInt32Type};
use arrow::error::ArrowError;
use runstone_record::Column;

use crate::chunk::{Chunk, IdRun, Run, Stored};
use crate::columns::arrow_type;

impl Chunk {
    /// One chunk of the records of several, which follow each other in one journal.
    pub(crate) fn merge(parts: &[Arc<Chunk>]) -> Result<Chunk, ArrowError> {
        let mut runs: Vec<Run> = Vec::with_capacity(parts.iter().map(|part| part.runs.len()).sum());
        let mut before = 0;
        for part in parts {
            for run in &part.runs {
                extend(&mut runs, run, before);
            }
            before += part.rows;
        }
        runs.shrink_to_fit();
        let columns =
            Column::ALL.into_iter().map(|column| merge_column(column, parts)).collect::<Result<Vec<_>, _>>()?;
        let (journal, first) =
            parts.first().map_or_else(|| ("".into(), 0), |part| (Arc::clone(&part.journal), part.first));
        Ok(Chunk::new(journal, first, runs, columns))
    }
}

/// Adds a run, to the one before it where it goes on with the same time of arrival and consecutive ids.
fn extend(runs: &mut Vec<Run>, run: &Run, before: usize) {
    let start = runs.last().map_or(0, |last| last.end);
    let last_start = runs.len().checked_sub(2).map_or(0, |place| runs[place].end);
    let end = before + run.end;
    if let Some(last) = runs.last_mut()
        && last.ingested_at == run.ingested_at
    {
        match (&mut last.ids, &run.ids) {
            (IdRun::Minted(first), IdRun::Minted(next)) if *first + (start - last_start) as u128 == *next => {
                last.end = end;
                return;
            }
            (IdRun::Given(ids), IdRun::Given(more)) => {
                ids.extend_from_slice(more);
                last.end = end;
                return;
            }
            _ => {}
        }
    }
    runs.push(Run { end, ..run.clone() });
}

fn merge_column(column: Column, parts: &[Arc<Chunk>]) -> Result<Option<Stored>, ArrowError> {
    let stored: Vec<_> = parts.iter().map(|part| part.stored(column)).collect();
    match stored.iter().flatten().next() {
        None => Ok(None),
        Some(Stored::Plain(_)) => {
            let arrays: Vec<ArrayRef> = parts
                .iter()
                .zip(&stored)
                .map(|(part, stored)| match stored {
                    Some(Stored::Plain(values)) => Arc::clone(values),
                    _ => new_null_array(&arrow_type(column), part.rows),
                })
                .collect();
            let arrays: Vec<&dyn Array> = arrays.iter().map(AsRef::as_ref).collect();
            Ok(Some(Stored::Plain(concat(&arrays)?)))
        }
        Some(Stored::Words { .. }) => merge_words(parts, &stored).map(Some),
    }
}

fn merge_words(parts: &[Arc<Chunk>], stored: &[Option<&Stored>]) -> Result<Stored, ArrowError> {
    let rows = parts.iter().map(|part| part.rows).sum();
    let mut numbers: HashMap<&str, u32> = HashMap::new();
    let mut texts: Vec<&str> = Vec::new();
    let mut keys: Vec<u32> = Vec::with_capacity(rows);
    let mut valid = BooleanBufferBuilder::new(rows);
    for (part, stored) in parts.iter().zip(stored) {
        let Some(Stored::Words { words, keys: own }) = stored else {
            keys.resize(keys.len() + part.rows, 0);
            valid.append_n(part.rows, false);
            continue;
        };
        let renumbered: Vec<u32> = (0..words.len())
            .map(|word| {
                let text = words.value(word);
                *numbers.entry(text).or_insert_with(|| {
                    texts.push(text);
                    u32::try_from(texts.len() - 1).unwrap_or(u32::MAX)
                })
            })
            .collect();
        let own = cast(own, &DataType::UInt32)?;
        let own = own.as_primitive::<UInt32Type>();
        let renumber = |key: &u32| renumbered.get(*key as usize).copied().unwrap_or(0);
        keys.extend(own.values().iter().map(renumber));
        match own.nulls() {
            Some(nulls) => valid.append_buffer(nulls.inner()),
            None => valid.append_n(part.rows, true),
        }
    }
    let nulls = NullBuffer::new(valid.finish());
    let nulls = (nulls.null_count() > 0).then_some(nulls);
    let keys: ArrayRef = Arc::new(UInt32Array::try_new(keys.into(), nulls)?);
    let width = match texts.len() {
        ..=0x100 => DataType::UInt8,
        0x101..=0x1_0000 => DataType::UInt16,
        _ => DataType::UInt32,
    };
    Ok(Stored::Words { words: StringArray::from_iter_values(texts), keys: cast(&keys, &width)? })
}
